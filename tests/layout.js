/* What can be wrong with the look of a page of the site: each function returns its complaints. */
globalThis.look = (() => {
  const named = (e) => `${e.localName}.${e.getAttribute("class")} ${e.textContent.trim().slice(0, 40)}`;
  const scrolls = (e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
  const cuts = (e) => ["hidden", "clip"].includes(getComputedStyle(e).overflowX);

  function isInScroller(element) {
    for (let e = element.parentElement; e; e = e.parentElement) if (scrolls(e)) return true;
    return false;
  }

  /** Whatever is wider than the window, cut off, or not there. */
  function layout() {
    const width = document.documentElement.clientWidth;
    const wrong = document.documentElement.scrollWidth > width ? ["wider than its window"] : [];
    for (const e of document.querySelectorAll("article *")) {
      if (!e.checkVisibility() || !e.getClientRects().length) continue;
      const box = e.getBoundingClientRect();
      const sticksOut = box.right > width + 1 || box.left < -1;
      if (sticksOut && !isInScroller(e)) wrong.push(`outside: ${named(e)}`);
      if (cuts(e) && e.clientWidth && e.scrollWidth > e.clientWidth + 1) wrong.push(`cut: ${named(e)}`);
      if (e.localName === "img" && !(e.complete && e.naturalWidth > 50)) wrong.push(`empty: ${e.src}`);
      if (e.localName === "math" && box.width * box.height < 9) wrong.push(`empty: ${named(e)}`);
    }
    return wrong;
  }

  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

  function rgba(color) {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  }

  const over = ([r, g, b, a], ground) => [r, g, b].map((x, i) => (x * a + ground[i] * (255 - a)) / 255);

  function ground(element) {
    if (!element) return [255, 255, 255];
    return over(rgba(getComputedStyle(element).backgroundColor), ground(element.parentElement));
  }

  /** Relative luminance, as WCAG 2 defines it. */
  function luminance(color) {
    const linear = color.map((x) => (x <= 10.3 ? x / 3294.6 : ((x / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  }

  /** Texts whose colour is too near to what is behind them. */
  function faint(least) {
    const article = document.querySelector("article");
    const texts = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
    const found = new Map();
    while (texts.nextNode()) {
      const e = texts.currentNode.parentElement;
      if (!texts.currentNode.data.trim() || !e.checkVisibility()) continue;
      if (e.closest(".headerlink, script, style, title, .md-clipboard")) continue;
      const { color, fill } = getComputedStyle(e);
      const paper = ground(e);
      const ink = over(rgba(e.ownerSVGElement ? fill : color), paper);
      const [dim, bright] = [luminance(ink), luminance(paper)].sort((a, b) => a - b);
      const ratio = (bright + 0.05) / (dim + 0.05);
      if (ratio < least) found.set(`${e.localName}.${e.className} ${ratio.toFixed(2)}`, named(e));
    }
    return [...found].map(([where, text]) => `faint: ${where}: ${text}`);
  }

  return { layout, faint };
})();
document.head.append(
  Object.assign(document.createElement("style"), { textContent: "* { transition: none !important }" }),
);
for (const fold of document.querySelectorAll("details")) fold.open = true;
