#Requires -Version 7.0
<#
.SYNOPSIS
The four documented experiments, driven through the shell: one CSV row a method and prompt.
.DESCRIPTION
Target AR; Speculative, gamma 4; EGAG 1/6/0.9; NASD basic 3, filler 3.
.EXAMPLE
pwsh ./scripts/run_ablation.ps1 -Runner "uv run infer.py --device cpu" -Prompt "Once upon a time"
#>
[CmdletBinding()]
param(
    [string] $Prompt,
    [string] $Runner = "uv run infer.py --device cuda",
    [string] $Out = "scripts/ablation_results.csv"
)

$ErrorActionPreference = "Stop"
$project = Split-Path -Parent $PSScriptRoot

# A relative -Out is meant from where the user stands; the runner is meant from the project.
if ($PSBoundParameters.ContainsKey("Out")) {
    $Out = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Out)
}

$arguments = @("run", "python", "-m", "foredraft.bench.shell_runs", "--runner", $Runner, "--out", $Out)
if ($PSBoundParameters.ContainsKey("Prompt")) {
    $arguments += @("--prompt", $Prompt)
}

Push-Location $project
try {
    & uv @arguments
    $code = $LASTEXITCODE
}
finally {
    Pop-Location
}
exit $code
