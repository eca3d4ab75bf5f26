// Looks a page over as a reader would: what overlaps, is cut, sticks out, is too small or too pale.
// Put into a copy of the page by tests/report.rs; leaves what it found in the page around it.
addEventListener("load", () => {
  const problems = [];
  if (OPEN) document.querySelectorAll("details").forEach((d) => (d.open = true));
  const words = (s) => JSON.stringify(s.trim().replace(/\s+/g, " ").slice(0, 60));

  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) problems.push(`the page is ${wide} pixels wide in ${innerWidth}`);

  // What of `rect` is to be seen through containers that scroll or hide.
  const clipped = (element, rect) => {
    let { left, top, right, bottom } = rect;
    for (let e = element; e && e !== document.body; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (e instanceof SVGElement || style.overflowX === "visible") continue;
      const room = e.getBoundingClientRect();
      if (style.overflowX === "hidden" && (right > room.right + 1 || left < room.left - 1)) {
        problems.push(`cut: ${words(element.textContent)}`);
      }
      left = Math.max(left, room.left);
      right = Math.min(right, room.right);
      top = Math.max(top, room.top);
      bottom = Math.min(bottom, room.bottom);
    }
    return { left, top, right, bottom };
  };

  const channel = (c) => ((c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const rgb = (colour) => colour.match(/[\d.]+/g).slice(0, 3).map(Number);
  const paper = light(rgb(getComputedStyle(document.body).backgroundColor));
  const contrast = (colour) => {
    const [low, high] = [light(rgb(colour)), paper].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };

  const boxes = [];
  const skipped = "title, desc, style, script, head";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest(skipped) || !parent.checkVisibility()) continue;
    const svg = parent.closest("svg");
    const range = document.createRange();
    range.selectNodeContents(node);
    const rects = svg ? [parent.getBoundingClientRect()] : [...range.getClientRects()];
    const shown = rects.filter((r) => r.width > 0.5 && r.height > 0.5);
    if (shown.length === 0) continue;
    const style = getComputedStyle(parent);
    let size = parseFloat(style.fontSize);
    if (svg) {
      const room = svg.getBoundingClientRect();
      size *= room.width / svg.viewBox.baseVal.width;
      const [text] = shown;
      const out = Math.max(room.left - text.left, text.right - room.right,
        room.top - text.top, text.bottom - room.bottom);
      if (out > 0.5) problems.push(`${words(node.data)} leaves its chart by ${out.toFixed(1)}`);
    }
    if (size < 9) problems.push(`${words(node.data)} is ${size.toFixed(1)} pixels small`);
    const pale = contrast(svg ? style.fill : style.color);
    const shape = parent.closest(".mark");
    if (pale < (shape ? 3 : 4.5)) {
      problems.push(`${words(node.data)} has contrast ${pale.toFixed(1)}`);
    }
    for (const rect of shown) {
      const seen = clipped(parent, rect);
      if (seen.right - seen.left > 2 && seen.bottom - seen.top > 4) {
        boxes.push({ ...seen, text: node.data });
      }
    }
  }

  // A letter's box is taller than the letter.
  boxes.sort((a, b) => a.top - b.top);
  boxes.forEach((a, i) => {
    for (let j = i + 1; j < boxes.length && boxes[j].top < a.bottom - 3; j++) {
      const b = boxes[j];
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && down > 3) problems.push(`${words(a.text)} and ${words(b.text)} overlap`);
    }
  });

  const found = parent.document.createElement("pre");
  found.id = "found";
  found.textContent = JSON.stringify({ boxes: boxes.length, width: innerWidth, problems });
  parent.document.body.append(found);
});
