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
    const id = `explore-${name}`;
    const input = html("input", { type: "range", id, min: least, max: most, step, value });
    const output = html("output", { for: id });
    const row = html("div", { class: "explore-slider" }, html("label", { for: id }, label), input, output);
    return { input, output, row };
  }

  /** A list of results, read out when they change: [list, what sets one of them]. */
  function results(labels) {
    const list = html("dl", { class: "explore-results", "aria-live": "polite" });
    const cells = {};
    for (const [name, label] of Object.entries(labels)) {
      cells[name] = html("dd", { "data-result": name });
      list.append(html("div", {}, html("dt", {}, label), cells[name]));
    }
    function set(name, text) {
      if (cells[name].textContent !== text) cells[name].textContent = text;
    }
    return [list, set];
  }

  /** Draw now, and again whenever the element's width changes. */
  const whenResized = (element, redraw) => new ResizeObserver(redraw).observe(element);

  // --- how fast ------------------------------------------------------------------------------------

  const LONGEST = 16;

  function showSpeed(root, words) {
    const sliders = [
      slider("alpha", words.alpha, [0, 0.99, 0.01, 0.8]),
      slider("cost", words.cost, [0.01, 1, 0.01, 0.1]),
      slider("gamma", words.gamma, [0, LONGEST, 1, 4]),
    ];
    const [list, set] = results(words.speedResults);
    const chart = svg("svg", { class: "explore-chart", role: "img", "aria-label": words.curve, height: 250 });
    const times = html("div", { class: "explore-times" });
    root.replaceChildren(...sliders.map(({ row }) => row), list, chart, times);

    function update() {
      const [alpha, cost, gamma] = sliders.map(({ input }) => Number(input.value));
      for (const { input, output } of sliders) {
        output.textContent = Number(input.value).toFixed(input.step < 1 ? 2 : 0);
      }
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
    const x = (g) => left + ((right - left) * g) / LONGEST;
    const y = (ratio) => bottom - ((bottom - top) * ratio) / highest;
    const parts = [word("axis", 0, 14, words.speedupAxis), word("axis end", right, 244, words.gammaAxis)];
    for (let ratio = 0; ratio <= highest; ratio += step) {
      parts.push(line("grid", left, y(ratio), right, y(ratio)), word("tick end", left - 6, y(ratio) + 4, ratio));
    }
    for (let g = 0; g <= LONGEST; g += 2) parts.push(word("tick mid", x(g), bottom + 18, g));
    parts.push(line("plain", left, y(1), right, y(1)), word("tick end", right, y(1) - 6, words.plain));
    const points = ratios.map((ratio, g) => `${x(g)},${y(ratio)}`).join(" ");
    parts.push(svg("polyline", { class: "curve", points }));
    const circle = (look, g, r) => svg("circle", { class: look, cx: x(g), cy: y(ratios[g]), r });
    if (best <= LONGEST) parts.push(circle("best", best, 10));
    parts.push(...ratios.map((_, g) => circle("point", g, 3)), circle("now", gamma, 6));
    chart.replaceChildren(...parts);
  }

  /** One round on a time axis, above plain decoding of as many tokens. */
  function drawTimes(times, words, tau, cost, gamma) {
    const round = 1 + gamma * cost;
    const unit = 100 / Math.max(round, tau);
    const block = (look, width) => html("span", { class: look, style: `width: ${width * unit}%` });
    const isThin = cost * unit < 1; // too thin to be seen one by one
    const drafts = isThin ? [block("draft", gamma * cost)] : Array(gamma).fill(cost).map((c) => block("draft", c));
    const passes = Array.from({ length: Math.ceil(tau) }, (_, i) => block("target", Math.min(1, tau - i)));
    times.replaceChildren(
      html("p", {}, words.roundTime(gamma, round.toFixed(2))),
      html("div", { "aria-hidden": "true" }, ...drafts, block("target", 1)),
      html("p", {}, words.plainTime(tau.toFixed(2))),
      html("div", { "aria-hidden": "true" }, ...passes),
    );
  }

  // --- why it is exact -----------------------------------------------------------------------------

  const START = { p: [0.4, 0.25, 0.2, 0.1, 0.05], q: [0.25, 0.1, 0.4, 0.2, 0.05] };
  const ROWS = { pq: [28, 210], after: [286, 386], out: [446, 576] }; // [top, bottom] of each
  const DRAWS = 1000;
  const SEED = 1;
  const STEPS = {
    ArrowUp: 0.01, ArrowRight: 0.01, ArrowDown: -0.01, ArrowLeft: -0.01, PageUp: 0.1, PageDown: -0.1, Home: -1, End: 1,
  };

  function showOverlap(root, words) {
    const state = {};
    const chart = svg("svg", { class: "explore-chart", height: 604, role: "group", "aria-label": words.bars });
    const lossy = html("input", { type: "checkbox", id: "explore-lossy" });
    const [list, set] = results(words.overlapResults);
    const after = () => (lossy.checked ? state.p : residual(state.p, state.q));

    /** Take other distributions and begin anew: what was counted belongs to the old ones. */
    function begin(changes) {
      const zeros = words.tokens.map(() => 0);
      Object.assign(state, changes, { random: generator(SEED), kept: [...zeros], redrawn: [...zeros] });
      update();
    }

    function drawMore() {
      for (let i = 0; i < DRAWS; i += 1) {
        const [token, isKept] = emit(state.p, state.q, after(), state.random);
        state[isKept ? "kept" : "redrawn"][token] += 1;
      }
      update();
    }

    function update() {
      const { p, q, kept, redrawn } = state;
      const exact = emitted(p, q, after());
      const drawn = sum(kept) + sum(redrawn);
      let bars = [shared(p, q), zip(exact, shared(p, q), (all, part) => all - part)];
      if (drawn) bars = [kept, redrawn].map((counts) => counts.map((count) => count / drawn));
      const distance = totalVariation(zip(...bars, (a, b) => a + b), p);
      set("acceptance", acceptance(p, q).toFixed(3));
      set("variation", totalVariation(p, q).toFixed(3));
      set("bias", totalVariation(exact, p).toFixed(3));
      set("drawn", drawn ? words.drawn(drawn, distance.toFixed(3), chance(p, drawn).toFixed(3)) : words.nothing);
      const titles = { pq: words.rowPQ, after: lossy.checked ? words.rowLossy : words.rowResidual, out: words.rowOut };
      drawBars(picture, handles, chart.clientWidth, titles, words.tokens, p, q, after(), bars);
    }

    const picture = svg("g", { "aria-hidden": "true" });
    const handles = ["p", "q"].flatMap((name) => {
      const [get, put] = [() => state[name], (distribution) => begin({ [name]: distribution })];
      return words.tokens.map((token, i) => handle(`explore-${name}${i}`, words.handle(name, token), i, get, put));
    });
    chart.append(picture, ...handles);
    const button = (name, press) => {
      const look = { type: "button", class: "md-button", id: `explore-${name}` };
      const made = html("button", look, words.buttons[name]);
      made.addEventListener("click", press);
      return made;
    };
    const key = ([look, text]) => html("li", {}, html("span", { class: look }), text);
    root.replaceChildren(
      html("ul", { class: "explore-legend" }, ...Object.entries(words.legend).map(key)),
      chart,
      html("div", { class: "explore-buttons" },
        button("draw", drawMore),
        button("same", () => begin({ q: state.p })),
        button("sure", () => begin({ q: [0, 1, 0, 0, 0] })),
        button("reset", () => { lossy.checked = false; begin(START); })),
      html("div", { class: "explore-switch" }, lossy, html("label", { for: lossy.id }, words.lossy)),
      list,
    );
    lossy.addEventListener("change", () => begin({}));
    begin(START);
    whenResized(chart, update);
  }

  /** The top of a bar, a slider for pointers and keys; `get` and `put` its distribution. */
  function handle(id, label, index, get, put) {
    const grip = svg("g", { class: "handle", id, role: "slider", tabindex: 0, "aria-label": label });
    for (const [name, value] of [["valuemin", 0], ["valuemax", 1], ["orientation", "vertical"]]) {
      grip.setAttribute(`aria-${name}`, value);
    }
    grip.append(svg("rect", { class: "reach" }), svg("rect", { class: "grip" }));
    function set(from, value) {
      put(moved(from, index, Math.min(1, Math.max(0, Math.round(value * 100) / 100))));
    }
    grip.addEventListener("keydown", (event) => {
      if (!(event.key in STEPS)) return;
      event.preventDefault();
      set(get(), get()[index] + STEPS[event.key]);
    });
    const [top, bottom] = ROWS.pq;
    let held = null; // the distribution when the pointer came down, and where its bar has its foot
    grip.addEventListener("pointerdown", (event) => {
      grip.setPointerCapture(event.pointerId);
      held = { from: get(), foot: event.clientY + get()[index] * (bottom - top) };
    });
    grip.addEventListener("pointermove", (event) => {
      if (held) set(held.from, (held.foot - event.clientY) / (bottom - top));
    });
    for (const end of ["pointerup", "pointercancel"]) grip.addEventListener(end, () => (held = null));
    return grip;
  }

  /** How far a histogram of n honest draws is from p on average: the noise of chance. */
  const chance = (p, n) => sum(p.map((value) => Math.sqrt((2 * value * (1 - value)) / (Math.PI * n)))) / 2;

  /** Three rows of bars over the same tokens: p and q, what a rejection draws from, what is emitted. */
  function drawBars(picture, handles, chartWidth, titles, tokens, p, q, after, [kept, redrawn]) {
    const left = 34;
    const column = (Math.max(chartWidth, 260) - left) / tokens.length;
    const wide = Math.min(34, column * 0.4);
    const parts = [];
    const level = ([top, bottom], value) => bottom - (bottom - top) * value;

    /** A bar of two parts, one on the other. */
    function stack(row, x, width, lower, upper, look) {
      const [foot, edge, head] = [0, lower, lower + upper].map((value) => level(row, value));
      parts.push(rect("kept", x, edge, width, foot - edge), rect(look, x, head, width, edge - head));
    }

    for (const [name, row] of Object.entries(ROWS)) {
      parts.push(word("axis", 0, row[0] - 14, titles[name]));
      for (const value of [0, 0.5, 1]) {
        const y = level(row, value);
        parts.push(line("grid", left, y, left + column * tokens.length, y), word("tick end", left - 6, y + 4, value));
      }
    }
    const both = shared(p, q);
    for (const [i, token] of tokens.entries()) {
      const x = left + column * (i + 0.5);
      stack(ROWS.pq, x - wide - 1, wide, both[i], p[i] - both[i], "missing");
      stack(ROWS.pq, x + 1, wide, both[i], q[i] - both[i], "surplus");
      stack(ROWS.after, x - wide, 2 * wide, 0, after[i], "missing");
      stack(ROWS.out, x - wide, 2 * wide, kept[i], redrawn[i], "missing");
      const wanted = level(ROWS.out, p[i]);
      parts.push(line("wanted", x - wide - 6, wanted, x + wide + 6, wanted));
      for (const row of Object.values(ROWS)) parts.push(word("mid", x, row[1] + (row === ROWS.pq ? 36 : 18), token));
      for (const [side, name, value] of [[-1, "p", p[i]], [1, "q", q[i]]]) {
        parts.push(word("tick mid", x + (side * wide) / 2, ROWS.pq[1] + 17, name));
        const grip = handles[name === "p" ? i : tokens.length + i];
        grip.setAttribute("aria-valuenow", value.toFixed(2));
        place(grip, name === "p" ? x - wide - 1 : x + 1, level(ROWS.pq, value), wide);
      }
    }
    picture.replaceChildren(...parts);
  }

  /** Put a handle on top of its bar: what can be caught, and what is seen. */
  function place(grip, x, y, width) {
    for (const [shape, height] of [[grip.children[0], 28], [grip.children[1], 6]]) {
      const box = { x, y: y - height / 2, width, height };
      for (const [name, value] of Object.entries(box)) shape.setAttribute(name, value);
    }
  }

  // --- words ---------------------------------------------------------------------------------------

  const WORDS = {
    zh: {
      alpha: "接受率 α",
      cost: "成本比 c",
      gamma: "草稿长度 γ",
      speedResults: {
        tau: "每轮的 token 数 τ",
        speedup: "加速比 S",
        best: "最佳的 γ",
        bestSpeedup: "最佳 γ 的加速比",
        breakEven: "起草划算吗",
      },
      pays: "划算：α > c",
      never: "不划算：α ≤ c",
      curve: "加速比随草稿长度变化的曲线，标出所选的 γ 与最佳的 γ",
      speedupAxis: "加速比 S（圆圈：最佳的 γ）",
      gammaAxis: "草稿长度 γ",
      plain: "普通解码",
      roundTime: (gamma, time) => `投机解码一轮：起草 ${gamma} 次，目标前向 1 次，耗时 ${time}`,
      plainTime: (tau) => `普通解码，生成同样多的 token：目标前向 ${tau} 次，耗时 ${tau}`,
      tokens: ["沙发", "垫子", "地板", "屋顶", "月亮"],
      bars: "p 与 q 的柱形；每根柱子的顶端可以用方向键或指针移动",
      handle: (name, token) => `${name}（${token}）`,
      rowPQ: "p 与 q：拖动柱顶，或按方向键",
      rowResidual: "残差分布：拒绝之后从这里抽取",
      rowLossy: "没有残差分布：拒绝之后又从 p 抽取",
      rowOut: "输出的分布；横线是 p",
      legend: {
        kept: "接受：min(p, q)",
        surplus: "q 偏高的部分：拒绝",
        missing: "q 偏低的部分：由残差分布补足",
      },
      buttons: { draw: "抽取 1000 次", same: "令 q = p", sure: "q 只押一个词", reset: "恢复初始值" },
      lossy: "去掉残差分布（拒绝之后又从 p 抽取）",
      overlapResults: {
        acceptance: "接受率 Σ min(p, q)",
        variation: "全变差距离 TV(p, q)",
        bias: "输出与 p 的距离",
        drawn: "模拟",
      },
      drawn: (count, distance, noise) => `${count} 次，直方图与 p 的距离 ${distance}（仅由偶然约 ${noise}）`,
      nothing: "尚未抽取",
    },
    en: {
      alpha: "acceptance rate α",
      cost: "cost ratio c",
      gamma: "draft length γ",
      speedResults: {
        tau: "tokens a round, τ",
        speedup: "speed-up S",
        best: "best γ",
        bestSpeedup: "speed-up at the best γ",
        breakEven: "does drafting pay?",
      },
      pays: "yes: α > c",
      never: "no: α ≤ c",
      curve: "Curve of the speed-up against the draft length; the chosen γ and the best γ are marked",
      speedupAxis: "speed-up S (ring: best γ)",
      gammaAxis: "draft length γ",
      plain: "plain decoding",
      roundTime: (gamma, time) => `A round of speculative decoding, ${gamma} draft calls and 1 target pass: time ${time}`,
      plainTime: (tau) => `Plain decoding of as many tokens, ${tau} target passes: time ${tau}`,
      tokens: ["sofa", "mat", "floor", "roof", "moon"],
      bars: "Bars of p and q; the top of each bar can be moved with the arrow keys or a pointer",
      handle: (name, token) => `${name} of ${token}`,
      rowPQ: "p and q: drag the top of a bar, or use the arrow keys",
      rowResidual: "residual: drawn from after a rejection",
      rowLossy: "no residual: p again after a rejection",
      rowOut: "what is emitted; the lines are p",
      legend: {
        kept: "accepted: min(p, q)",
        surplus: "q too high: rejected",
        missing: "q too low: comes from the residual",
      },
      buttons: { draw: "Draw 1,000", same: "Let q = p", sure: "Let q be sure", reset: "Start again" },
      lossy: "without the residual (after a rejection, draw from p again)",
      overlapResults: {
        acceptance: "acceptance rate Σ min(p, q)",
        variation: "total variation TV(p, q)",
        bias: "distance of the output from p",
        drawn: "simulation",
      },
      drawn: (count, distance, noise) => `${count.toLocaleString("en")} draws, ${distance} away from p (by chance alone about ${noise})`,
      nothing: "nothing drawn yet",
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
