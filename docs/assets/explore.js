/* The interactive page: the formulas of chapter 2 and the acceptance rule, to be moved by hand.
 *
 * Nothing is fetched. The formulas are pure functions; `globalThis.foredraft` holds them for the tests. */
"use strict";

(() => {
  // --- the formulas --------------------------------------------------------------------------------

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const zip = (p, q, join) => p.map((value, i) => join(value, q[i]));

  /** E[tokens of a round] = 1 + α + … + α^γ. */
  const expectedTokens = (alpha, gamma) => sum(Array.from({ length: gamma + 1 }, (_, i) => alpha ** i));

  /** Speed-up over plain decoding when a draft call costs `cost` target calls. */
  const speedup = (alpha, cost, gamma) => expectedTokens(alpha, gamma) / (1 + gamma * cost);

  /** The γ of the highest speed-up: the first whose successor is no better. */
  function bestGamma(alpha, cost) {
    let gamma = 0;
    while (speedup(alpha, cost, gamma + 1) > speedup(alpha, cost, gamma)) gamma += 1;
    return gamma;
  }

  /** The part of each token's probability that p and q share: what is accepted. */
  const shared = (p, q) => zip(p, q, Math.min);

  /** The acceptance rate α = Σ min(p, q) = 1 − TV(p, q). */
  const acceptance = (p, q) => sum(shared(p, q));

  const totalVariation = (p, q) => sum(zip(p, q, (a, b) => Math.abs(a - b))) / 2;

  /** What the token is drawn from after a rejection: max(0, p − q), normalised. */
  function residual(p, q) {
    const excess = zip(p, q, (a, b) => Math.max(0, a - b));
    const total = sum(excess);
    return excess.map((value) => (total > 0 ? value / total : 0));
  }

  /** The distribution of the emitted token; `after` is what a rejection draws from. */
  function emitted(p, q, after) {
    const rejected = 1 - acceptance(p, q);
    return zip(shared(p, q), after, (kept, value) => kept + rejected * value);
  }

  /** A distribution in which one token has `value`, and the others keep their proportions. */
  function moved(distribution, index, value) {
    const others = sum(distribution.filter((_, i) => i !== index));
    const share = (x) => (others > 0 ? x / others : 1 / (distribution.length - 1));
    return distribution.map((x, i) => (i === index ? value : (1 - value) * share(x)));
  }

  /** Random numbers in [0, 1) from a seed (mulberry32): the same ones for every reader. */
  function generator(seed) {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  /** A token drawn from a distribution. */
  function draw(distribution, random) {
    let left = random() * sum(distribution);
    const found = distribution.findIndex((value) => (left -= value) < 0);
    return found >= 0 ? found : distribution.findLastIndex((value) => value > 0);
  }

  /** One round of speculative sampling with one draft token: [token, whether it was accepted]. */
  function emit(p, q, after, random) {
    const token = draw(q, random);
    return random() < p[token] / q[token] ? [token, true] : [draw(after, random), false];
  }

  // --- drawing -------------------------------------------------------------------------------------

  const maker = (space) => (name, attributes = {}, ...children) => {
    const made = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const html = maker("http://www.w3.org/1999/xhtml");
  const svg = maker("http://www.w3.org/2000/svg");
  const rect = (look, x, y, width, height) => svg("rect", { class: look, x, y, width, height: Math.max(0, height) });
  const line = (look, x1, y1, x2, y2) => svg("line", { class: look, x1, y1, x2, y2 });
  const word = (look, x, y, text) => svg("text", { class: look, x, y }, text);

  /** A labelled slider; `output` shows its value. */
  function slider(name, label, [least, most, step, value]) {
    const input = html("input", { type: "range", id: `explore-${name}`, min: least, max: most, step, value });
    const output = html("output", { for: input.id });
    return { input, output, row: html("div", { class: "explore-slider" }, html("label", { for: input.id }, label), input, output) };
  }

  /** A list of results, read out when they change: [list, what sets one of them]. */
  function results(labels) {
    const cells = Object.entries(labels).map(([name, label]) => [name, label, html("dd", { "data-result": name })]);
    const list = html("dl", { class: "explore-results", "aria-live": "polite" });
    for (const [, label, cell] of cells) list.append(html("div", {}, html("dt", {}, label), cell));
    const byName = Object.fromEntries(cells.map(([name, , cell]) => [name, cell]));
    const set = (name, text) => byName[name].textContent !== text && (byName[name].textContent = text);
    return [list, set];
  }

  /** Draw now, and again whenever the element's width changes. */
  const whenResized = (element, redraw) => new ResizeObserver(redraw).observe(element);

  // --- how fast ------------------------------------------------------------------------------------

  const LONGEST = 16;

  function showSpeed(root, words) {
    const parts = { alpha: [0, 0.99, 0.01, 0.8], cost: [0.01, 1, 0.01, 0.1], gamma: [0, LONGEST, 1, 4] };
    const sliders = Object.entries(parts).map(([name, range]) => [name, slider(name, words[name], range)]);
    const [list, set] = results(words.speedResults);
    const chart = svg("svg", { class: "explore-chart", role: "img", "aria-label": words.curve, height: 250 });
    const times = html("div", { class: "explore-times" });
    root.replaceChildren(...sliders.map(([, { row }]) => row), list, chart, times);

    function update() {
      const [alpha, cost, gamma] = sliders.map(([, { input }]) => Number(input.value));
      for (const [name, { input, output }] of sliders) output.textContent = name === "gamma" ? input.value : Number(input.value).toFixed(2);
      const best = bestGamma(alpha, cost);
      const tau = expectedTokens(alpha, gamma);
      set("tau", tau.toFixed(2));
      set("speedup", `${speedup(alpha, cost, gamma).toFixed(2)}×`);
      set("best", String(best));
      set("bestSpeedup", `${speedup(alpha, cost, best).toFixed(2)}×`);
      set("breakEven", alpha > cost ? words.pays : words.never);
      drawCurve(chart, words, alpha, cost, gamma, best);
      drawTimes(times, words, tau, cost, gamma);
    }
    root.addEventListener("input", update);
    whenResized(chart, update);
  }

  /** Speed-up against γ, with the γ chosen and the best one. */
  function drawCurve(chart, words, alpha, cost, gamma, best) {
    const [left, top, bottom] = [34, 30, 205];
    const right = Math.max(chart.clientWidth, 240) - 14;
    const ratios = Array.from({ length: LONGEST + 1 }, (_, g) => speedup(alpha, cost, g));
    const step = [0.5, 1, 2, 4].find((s) => Math.max(...ratios) <= 4.5 * s);
    const highest = step * Math.max(2, Math.ceil(Math.max(...ratios) / step));
    const at = (g, ratio) => [left + ((right - left) * g) / LONGEST, bottom - ((bottom - top) * ratio) / highest];
    const parts = [word("axis", 0, 14, words.speedupAxis), word("axis end", right, 244, words.gammaAxis)];
    for (let ratio = 0; ratio <= highest; ratio += step) {
      const [, y] = at(0, ratio);
      parts.push(line("grid", left, y, right, y), word("tick end", left - 6, y + 4, String(ratio)));
    }
    for (let g = 0; g <= LONGEST; g += 2) parts.push(word("tick mid", at(g, 0)[0], bottom + 18, String(g)));
    const [, one] = at(0, 1);
    parts.push(line("plain", left, one, right, one), word("tick end", right, one + 15, words.plain));
    parts.push(svg("polyline", { class: "curve", points: ratios.map((ratio, g) => at(g, ratio).join()).join(" ") }));
    for (const [g, ratio] of ratios.entries()) {
      const [cx, cy] = at(g, ratio);
      if (g === best) parts.push(svg("circle", { class: "best", cx, cy, r: 10 }));
      parts.push(svg("circle", { class: g === gamma ? "point now" : "point", cx, cy, r: g === gamma ? 6 : 3 }));
    }
    chart.replaceChildren(...parts);
  }

  /** One round on a time axis, above plain decoding of as many tokens. */
  function drawTimes(times, words, tau, cost, gamma) {
    const round = 1 + gamma * cost;
    const unit = 100 / Math.max(round, tau);
    const block = (look, width) => html("span", { class: look, style: `width: ${width * unit}%` });
    const passes = Array.from({ length: Math.ceil(tau - 1e-9) }, (_, i) => block("target", Math.min(1, tau - i)));
    times.replaceChildren(
      html("p", {}, words.roundTime(gamma, round.toFixed(2))),
      html("div", { "aria-hidden": "true" }, ...Array.from({ length: gamma }, () => block("draft", cost)), block("target", 1)),
      html("p", {}, words.plainTime(tau.toFixed(2))),
      html("div", { "aria-hidden": "true" }, ...passes),
    );
  }

  // --- why it is exact -----------------------------------------------------------------------------

  const START = { p: [0.4, 0.25, 0.2, 0.1, 0.05], q: [0.25, 0.1, 0.4, 0.2, 0.05] };
  const ROWS = { pq: [28, 210], residual: [290, 390], emitted: [470, 590] }; // [top, bottom] of the three rows
  const DRAWS = 1000;
  const SEED = 1;

  function showOverlap(root, words) {
    const state = { p: START.p, q: START.q, random: generator(SEED), accepted: [], recovered: [] };
    const chart = svg("svg", { class: "explore-chart", height: 640, role: "group", "aria-label": words.bars });
    const picture = svg("g", { "aria-hidden": "true" });
    const lossy = html("input", { type: "checkbox", id: "explore-lossy" });
    const [list, set] = results(words.overlapResults);
    const button = (name, press) => {
      const made = html("button", { type: "button", class: "md-button", id: `explore-${name}` }, words.buttons[name]);
      made.addEventListener("click", press);
      return made;
    };
    const legend = Object.entries(words.legend).map(([look, text]) => html("li", {}, html("span", { class: look }), text));

    /** Begin anew: whatever was counted belongs to other distributions. */
    function change(name, distribution) {
      if (name) state[name] = distribution;
      Object.assign(state, { random: generator(SEED), accepted: state.p.map(() => 0), recovered: state.p.map(() => 0) });
      update();
    }
    const after = () => (lossy.checked ? state.p : residual(state.p, state.q));

    const handles = ["p", "q"].flatMap((name) => state.p.map((_, i) => handle(name, i)));
    function handle(name, i) {
      const grip = svg("g", { class: "handle", id: `explore-${name}${i}`, role: "slider", tabindex: 0, "aria-valuemin": 0, "aria-valuemax": 1, "aria-orientation": "vertical", "aria-label": words.handle(name, words.tokens[i]) });
      grip.append(svg("rect", { class: "reach" }), svg("rect", { class: "grip" }));
      let [before, held] = [null, 0];
      const put = (from, value) => change(name, moved(from, i, Math.min(1, Math.max(0, Math.round(value * 100) / 100))));
      grip.addEventListener("keydown", (event) => {
        const now = state[name][i];
        const steps = { ArrowUp: 0.01, ArrowRight: 0.01, ArrowDown: -0.01, ArrowLeft: -0.01, PageUp: 0.1, PageDown: -0.1, Home: -1, End: 1 };
        if (!(event.key in steps)) return;
        event.preventDefault();
        put(state[name], now + steps[event.key]);
      });
      const [top, bottom] = ROWS.pq;
      grip.addEventListener("pointerdown", (event) => {
        grip.setPointerCapture(event.pointerId);
        [before, held] = [state[name], event.clientY + state[name][i] * (bottom - top)];
      });
      grip.addEventListener("pointermove", (event) => before && put(before, (held - event.clientY) / (bottom - top)));
      for (const end of ["pointerup", "pointercancel"]) grip.addEventListener(end, () => (before = null));
      return { name, i, grip };
    }

    function update() {
      const { p, q, accepted, recovered } = state;
      const drawn = sum(accepted) + sum(recovered);
      const exact = emitted(p, q, after());
      const bars = drawn ? [accepted, recovered].map((counts) => counts.map((n) => n / drawn)) : [shared(p, q), zip(exact, shared(p, q), (a, b) => a - b)];
      set("acceptance", acceptance(p, q).toFixed(3));
      set("variation", totalVariation(p, q).toFixed(3));
      set("bias", totalVariation(exact, p).toFixed(3));
      set("drawn", drawn ? words.drawn(drawn, totalVariation(zip(...bars, (a, b) => a + b), p).toFixed(3), chance(p, drawn).toFixed(3)) : words.nothing);
      drawBars(picture, handles, chart.clientWidth, words, p, q, after(), bars, lossy.checked);
    }

    root.replaceChildren(
      html("ul", { class: "explore-legend" }, ...legend), chart,
      html("div", { class: "explore-buttons" },
        button("draw", () => {
          for (let i = 0; i < DRAWS; i += 1) {
            const [token, kept] = emit(state.p, state.q, after(), state.random);
            (kept ? state.accepted : state.recovered)[token] += 1;
          }
          update();
        }),
        button("same", () => change("q", state.p)),
        button("oneHot", () => change("q", state.p.map((_, i) => (i === 1 ? 1 : 0)))),
        button("reset", () => { lossy.checked = false; change("p", START.p); change("q", START.q); })),
      html("div", { class: "explore-switch" }, lossy, html("label", { for: lossy.id }, words.lossy)), list);
    chart.append(picture, ...handles.map(({ grip }) => grip));
    lossy.addEventListener("change", () => change());
    change();
    whenResized(chart, update);
  }

  /** How far a histogram of n honest draws is from p on average: the noise of chance. */
  const chance = (p, n) => sum(p.map((value) => Math.sqrt((2 * value * (1 - value)) / (Math.PI * n)))) / 2;

  /** Three rows of bars over the same tokens: p and q, the residual, what is emitted. */
  function drawBars(picture, handles, chartWidth, words, p, q, after, [accepted, recovered], lossy) {
    const left = 34;
    const column = (Math.max(chartWidth, 260) - left) / p.length;
    const wide = Math.min(34, column * 0.4);
    const middle = (i) => left + column * (i + 0.5);
    const height = ([top, bottom], value) => (bottom - top) * value;
    const parts = [];
    const titles = { pq: words.rowPQ, residual: lossy ? words.rowLossy : words.rowResidual, emitted: words.rowEmitted };
    for (const [name, row] of Object.entries(ROWS)) {
      parts.push(word("axis", 0, row[0] - 14, titles[name]));
      for (const value of [0, 0.5, 1]) {
        const y = row[1] - height(row, value);
        parts.push(line("grid", left, y, left + column * p.length, y), word("tick end", left - 6, y + 4, String(value)));
      }
    }
    const stack = (row, x, width, lower, upper, look) => {
      const [low, high] = [height(row, lower), height(row, upper)];
      parts.push(rect("kept", x, row[1] - low, width, low), rect(look, x, row[1] - low - high, width, high));
    };
    const both = shared(p, q);
    for (const i of p.keys()) {
      const x = middle(i);
      stack(ROWS.pq, x - wide - 1, wide, both[i], p[i] - both[i], "missing");
      stack(ROWS.pq, x + 1, wide, both[i], q[i] - both[i], "surplus");
      parts.push(word("tick mid", x - wide / 2, ROWS.pq[1] + 17, "p"), word("tick mid", x + wide / 2, ROWS.pq[1] + 17, "q"));
      stack(ROWS.residual, x - wide, 2 * wide, 0, after[i], "missing");
      stack(ROWS.emitted, x - wide, 2 * wide, accepted[i], recovered[i], "missing");
      const y = ROWS.emitted[1] - height(ROWS.emitted, p[i]);
      parts.push(line("wanted", x - wide - 6, y, x + wide + 6, y));
      for (const row of Object.values(ROWS)) parts.push(word("token mid", x, row[1] + (row === ROWS.pq ? 36 : 20), words.tokens[i]));
    }
    picture.replaceChildren(...parts);
    for (const { name, i, grip } of handles) {
      const value = { p, q }[name][i];
      const [x, y] = [middle(i) + (name === "p" ? -wide - 1 : 1), ROWS.pq[1] - height(ROWS.pq, value)];
      const [reach, mark] = grip.children;
      for (const [shape, above, tall] of [[reach, 14, 28], [mark, 3, 6]]) {
        for (const [key, length] of Object.entries({ x, y: y - above, width: wide, height: tall })) shape.setAttribute(key, length);
      }
      grip.setAttribute("aria-valuenow", value.toFixed(2));
    }
  }

  // --- words ---------------------------------------------------------------------------------------

  const WORDS = {
    zh: {
      alpha: "接受率 α", cost: "成本比 c", gamma: "草稿长度 γ",
      speedResults: { tau: "每轮的 token 数 τ", speedup: "加速比 S", best: "最佳的 γ", bestSpeedup: "此时的加速比", breakEven: "起草划算吗" },
      pays: "划算：α > c", never: "不划算：α ≤ c",
      curve: "加速比随草稿长度变化的曲线，标出所选的 γ 与最佳的 γ", speedupAxis: "加速比 S", gammaAxis: "草稿长度 γ", plain: "普通解码",
      roundTime: (gamma, time) => `投机解码一轮：${gamma} 次起草加 1 次目标前向，耗时 ${time}`,
      plainTime: (tau) => `普通解码生成同样多的 token：${tau} 次目标前向，耗时 ${tau}`,
      tokens: ["垫子", "沙发", "地板", "屋顶", "月亮"],
      bars: "p 与 q 的柱形；每根柱子的顶端可以用方向键或指针移动", handle: (name, token) => `${name}（${token}）`,
      rowPQ: "p 与 q：拖动柱顶", rowResidual: "残差分布：拒绝之后从这里抽取", rowLossy: "去掉了残差分布：拒绝之后重新从 p 抽取", rowEmitted: "输出的分布，横线是 p",
      legend: { kept: "接受：min(p, q)", surplus: "q 多出的部分：被拒绝", missing: "p 多出的部分：由残差分布补上" },
      buttons: { draw: "抽取 1000 次", same: "令 q = p", oneHot: "q 只押一个词", reset: "恢复初始值" },
      lossy: "去掉残差分布（拒绝之后重新从 p 抽取）",
      overlapResults: { acceptance: "接受率 α = Σ min(p, q)", variation: "全变差距离 TV(p, q)", bias: "输出与 p 的距离", drawn: "模拟" },
      drawn: (count, distance, noise) => `${count} 次；直方图与 p 的距离 ${distance}，纯属偶然时约 ${noise}`, nothing: "尚未抽取",
    },
    en: {
      alpha: "acceptance rate α", cost: "cost ratio c", gamma: "draft length γ",
      speedResults: { tau: "tokens a round, τ", speedup: "speed-up S", best: "best γ", bestSpeedup: "its speed-up", breakEven: "does drafting pay?" },
      pays: "yes: α > c", never: "no: α ≤ c",
      curve: "Curve of the speed-up against the draft length, with the chosen γ and the best γ marked", speedupAxis: "speed-up S", gammaAxis: "draft length γ", plain: "plain decoding",
      roundTime: (gamma, time) => `One round of speculative decoding, ${gamma} draft calls and 1 target pass: time ${time}`,
      plainTime: (tau) => `Plain decoding of as many tokens, ${tau} target passes: time ${tau}`,
      tokens: ["mat", "sofa", "floor", "roof", "moon"],
      bars: "Bars of p and q; the top of each bar can be moved with the arrow keys or a pointer", handle: (name, token) => `${name} of ${token}`,
      rowPQ: "p and q: drag the top of a bar", rowResidual: "residual: drawn from after a rejection", rowLossy: "no residual: p again after a rejection", rowEmitted: "what is emitted; the lines are p",
      legend: { kept: "accepted: min(p, q)", surplus: "too much of q: rejected", missing: "too little of q: comes from the residual" },
      buttons: { draw: "Draw 1,000", same: "Let q = p", oneHot: "Let q be sure", reset: "Start again" },
      lossy: "without the residual (after a rejection, draw from p again)",
      overlapResults: { acceptance: "acceptance rate α = Σ min(p, q)", variation: "total variation TV(p, q)", bias: "distance of the output from p", drawn: "simulation" },
      drawn: (count, distance, noise) => `${count} draws; the histogram is ${distance} away from p, chance alone makes about ${noise}`, nothing: "nothing drawn yet",
    },
  };

  globalThis.foredraft = { expectedTokens, speedup, bestGamma, acceptance, totalVariation, residual, emitted, moved, generator, draw, emit };
  const words = WORDS[document.documentElement.lang] ?? WORDS.en;
  const parts = { "explore-speed": showSpeed, "explore-overlap": showOverlap };
  for (const [id, show] of Object.entries(parts)) {
    const root = document.getElementById(id);
    if (root) show(root, words);
  }
})();
