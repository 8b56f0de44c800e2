#!/usr/bin/env bash
# The four documented experiments (Target AR; Speculative, gamma 4; EGAG 1/6/0.9; NASD basic 3,
# filler 3), driven through the shell: one CSV row a method and prompt, and a table.
#
#   bash scripts/run_ablation.sh [--prompt TEXT] [--runner COMMAND] [--out FILE]
set -euo pipefail

usage() {
    sed -n '2,5s/^# \{0,1\}//p' "$0"
}

runner="uv run infer.py --device cuda"
out=""
prompt=()

while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            usage
            exit 0
            ;;
        --prompt | --runner | --out)
            if [ $# -lt 2 ]; then
                echo "error: $1 needs a value" >&2
                exit 2
            fi
            case "$1" in
                --prompt) prompt=(--prompt "$2") ;;
                --runner) runner="$2" ;;
                --out) out="$2" ;;
            esac
            shift 2
            ;;
        *)
            echo "error: unknown option '$1'; legal: --prompt, --runner, --out" >&2
            exit 2
            ;;
    esac
done

# A relative --out is meant from where the user stands; the runner is meant from the project.
case "$out" in
    "") out="scripts/ablation_results.csv" ;;
    /*) ;;
    *) out="$PWD/$out" ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# ${prompt[@]+…}: an empty array is an unbound variable for bash before 4.4.
exec uv run python -m foredraft.bench.shell_runs \
    --runner "$runner" --out "$out" ${prompt[@]+"${prompt[@]}"}
