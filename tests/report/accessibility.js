// The serious accessibility faults that a static page can have; returns a list of sentences, empty when there are none.
(() => {
  const faults = [];
  const say = (what, element) => faults.push(`${what}: ${element ? element.outerHTML.slice(0, 120) : "page"}`);
  const all = (selector) => [...document.querySelectorAll(selector)];

  if (!document.documentElement.lang) say("no language");
  if (!document.title.trim()) say("no title");
  for (const [selector, wanted] of [["main", 1], ["h1", 1], ["body > header", 1], ["body > footer", 1]])
    if (all(selector).length !== wanted) say(`${all(selector).length} of ${selector} instead of ${wanted}`);
  for (const child of document.body.children)
    if (!["HEADER", "MAIN", "FOOTER", "NAV"].includes(child.tagName)) say("outside every landmark", child);

  let level = 0;
  for (const heading of all("h1, h2, h3, h4, h5, h6")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) say(`heading jumps from ${level} to ${next}`, heading);
    if (!heading.textContent.trim()) say("empty heading", heading);
    level = next;
  }

  const ids = all("[id]").map((element) => element.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) say(`id ${id} is not unique`);
  for (const element of all("[aria-labelledby]"))
    for (const id of element.getAttribute("aria-labelledby").split(/\s+/))
      if (!document.getElementById(id)) say(`labelled by ${id}, which is not there`, element);
  for (const nav of all("nav")) if (!nav.getAttribute("aria-label")) say("navigation without a name", nav);
  for (const link of all("a")) {
    if (!link.textContent.trim()) say("link without words", link);
    const target = link.getAttribute("href");
    if (target.startsWith("#") && !document.getElementById(target.slice(1))) say("link to nowhere", link);
  }

  for (const image of all("img")) if (!(image.getAttribute("alt") || "").trim()) say("image without words", image);
  for (const table of all("table")) {
    if (!table.caption || !table.caption.textContent.trim()) say("table without a caption", table);
    if (![...(table.tHead?.rows[0]?.cells ?? [])].some(Boolean)) say("table without headers", table);
    else if (![...table.tHead.rows[0].cells].every((cell) => cell.tagName === "TH" && cell.scope === "col"))
      say("column without a header", table);
    for (const row of table.tBodies[0].rows)
      if (row.cells[0].tagName !== "TH" || row.cells[0].scope !== "row") say("row without a header", row);
  }
  for (const element of all("body *")) {
    const scrolls = /auto|scroll/.test(getComputedStyle(element).overflowX) && element.scrollWidth > element.clientWidth;
    if (scrolls && element.tabIndex < 0) say("scrolls, but not by keyboard", element);
  }

  // Contrast as WCAG 2 defines it: 4.5 to 1, or 3 to 1 for large text.
  const parse = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const luminance = ([r, g, b]) => {
    const linear = (c) => ((c /= 255), c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  for (const element of all("body *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    const style = getComputedStyle(element);
    const [a, b] = [luminance(parse(style.color)), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) say(`contrast of ${ratio.toFixed(2)}`, element);
  }
  return faults;
})()
