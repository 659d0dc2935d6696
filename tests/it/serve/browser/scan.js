// Finds what shuts somebody out of a page, by the rules of WCAG 2.2 AA that a script can judge; gives a list of faults in words.
const faults = [];
const said = (element) => {
  const id = element.id ? `#${element.id}` : "";
  return `<${element.tagName.toLowerCase()}${id} class="${element.getAttribute("class") || ""}"> ${(element.textContent || "").trim().slice(0, 40)}`;
};
const fault = (rule, element) => faults.push(`${rule}: ${element ? said(element) : ""}`);
const all = (selector) => [...document.querySelectorAll(selector)];
const isShown = (element) => {
  if (!element.checkVisibility({ checkVisibilityCSS: true, checkOpacity: true })) return false;
  const box = element.getBoundingClientRect();
  return box.width > 0 && box.height > 0;
};

// What is folded away is judged too.
for (const folded of all("details")) folded.open = true;

// The document.
if (!document.documentElement.lang) fault("no language");
if (!document.title.trim()) fault("no title");
if (!document.querySelector("meta[name=viewport]")) fault("no viewport");
if (all("h1").length !== 1) fault(`${all("h1").length} first headings`);
if (all("main").length !== 1) fault("not one main part");
let level = 0;
for (const heading of all("h1, h2, h3, h4, h5, h6")) {
  const own = Number(heading.tagName[1]);
  if (own > level + 1) fault(`a heading of level ${own} below one of ${level}`, heading);
  level = own;
}
for (const name of ["header", "footer"]) if (all(`body > ${name}`).length !== 1) fault(`not one ${name}`);
for (const part of document.body.childNodes) {
  const isPart = part.nodeType === Node.ELEMENT_NODE && part.matches("header, main, footer, script, a.skip");
  if (part.textContent.trim() && !isPart) fault(`a text outside of the page's parts: ${part.textContent.trim()}`);
}
const skip = document.querySelector("a.skip");
if (!skip || !document.querySelector(skip.getAttribute("href"))) fault("no way past the navigation");
const ids = new Set();
for (const element of all("[id]")) {
  if (ids.has(element.id)) fault("an id that stands twice", element);
  ids.add(element.id);
}
for (const element of all("[aria-labelledby], [aria-describedby]")) {
  for (const name of ["aria-labelledby", "aria-describedby"]) {
    for (const id of (element.getAttribute(name) || "").split(" ").filter(Boolean)) {
      if (!ids.has(id)) fault(`${name} leads nowhere`, element);
    }
  }
}
for (const part of all("nav, [role=region], section")) {
  if (!part.getAttribute("aria-label") && !part.getAttribute("aria-labelledby")) fault("a part without a name", part);
}
if (document.documentElement.scrollWidth > innerWidth) fault(`the page is wider (${document.documentElement.scrollWidth}) than the window`);

// Names.
for (const image of all("img")) if (!image.hasAttribute("alt")) fault("an image without a text", image);
for (const drawing of all("svg")) {
  const isNamed = drawing.getAttribute("role") === "img" && drawing.getAttribute("aria-label");
  if (drawing.getAttribute("aria-hidden") !== "true" && !isNamed) fault("a drawing that is read out without words", drawing);
}
for (const control of all("input, select, textarea")) {
  if (control.type === "hidden" || !isShown(control)) continue;
  const isLabelled = [...(control.labels || [])].some((label) => label.textContent.trim()) || control.getAttribute("aria-label");
  if (!isLabelled) fault("a field without a label", control);
}
for (const control of all("a[href], button, summary")) {
  const name = control.textContent.trim() || control.getAttribute("aria-label") || [...control.querySelectorAll("img")].map((image) => image.alt).join("");
  if (!name) fault("a control without a name", control);
}
for (const control of all("a:not([href])")) fault("a link that leads nowhere", control);
for (const table of all("table")) if (!table.querySelector("thead th")) fault("a table without heads", table);
for (const table of all("table")) {
  const labels = (table.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id));
  const texts = [table.caption, ...labels].map((element) => element ? element.textContent.trim() : "");
  if (!table.getAttribute("aria-label") && !texts.some(Boolean)) fault("a table without a name", table);
}
for (const cell of all("th")) if (!cell.hasAttribute("scope")) fault("a head without a scope", cell);
for (const form of all("form")) if (!form.querySelector("button")) fault("a form without a button", form);
for (const element of all("[tabindex]")) if (Number(element.getAttribute("tabindex")) > 0) fault("an order of its own", element);
for (const element of all("[style]")) fault("a style of its own", element);

// What scrolls can be scrolled by keyboard.
for (const element of all("body *")) {
  if (!isShown(element)) continue;
  const style = getComputedStyle(element);
  const scrolls = (/auto|scroll/.test(style.overflowX) && element.scrollWidth > element.clientWidth + 1)
    || (/auto|scroll/.test(style.overflowY) && element.scrollHeight > element.clientHeight + 1);
  const takesFocus = element.tabIndex >= 0 || element.querySelector("a[href], button, input");
  if (scrolls && !takesFocus) fault("it scrolls, and no key reaches it", element);
}

// Contrast.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (text) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const over = (top, ground) => [0, 1, 2].map((at) => top[at] * top[3] + ground[at] * (1 - top[3])).concat(1);
const groundOf = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const own = rgba(getComputedStyle(at).backgroundColor);
    if (own[3] > 0) layers.push(own);
    if (own[3] === 1) break;
  }
  return layers.reverse().reduce((ground, layer) => over(layer, ground), [255, 255, 255, 1]);
};
const light = ([r, g, b]) => {
  const part = (value) => { const c = value / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const contrast = (one, other) => {
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
const judged = new Set();
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.textContent.trim() || judged.has(element) || !isShown(element)) continue;
  if (/SCRIPT|STYLE/.test(element.tagName)) continue;
  judged.add(element);
  const style = getComputedStyle(element);
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const ground = groundOf(element);
  const ratio = contrast(over(rgba(style.color), ground), ground);
  if (ratio < (isLarge ? 3 : 4.5)) fault(`a contrast of ${ratio.toFixed(2)}`, element);
}
for (const control of all("input:not([type=hidden]):not([type=checkbox]), select, textarea")) {
  if (!isShown(control)) continue;
  const ground = groundOf(control.parentElement);
  if (contrast(over(rgba(getComputedStyle(control).borderTopColor), ground), ground) < 3) fault("a field whose edge isn't seen", control);
}
for (const shape of all("svg rect:not(.ground)")) {
  const box = shape.getBoundingClientRect();
  if (!box.width || !isShown(shape.ownerSVGElement)) continue;
  const ground = groundOf(shape.ownerSVGElement.parentElement);
  const ratio = contrast(over(rgba(getComputedStyle(shape).fill), ground), ground);
  if (ratio < 3) fault(`a shape with a contrast of ${ratio.toFixed(2)}: ${shape.getAttribute("class")}`, shape.ownerSVGElement.parentElement);
}

// Fingers and keys.
for (const control of all("button, summary, input:not([type=hidden]):not([type=checkbox]), select, nav a")) {
  if (!isShown(control)) continue;
  const box = control.getBoundingClientRect();
  if (box.height < 24 || box.width < 24) fault("too small to be hit", control);
}
for (const control of all("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")) {
  if (!isShown(control)) continue;
  control.focus({ preventScroll: true });
  if (document.activeElement !== control) { fault("it takes no focus", control); continue; }
  const style = getComputedStyle(control);
  if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 1) fault("its focus isn't seen", control);
}
document.activeElement.blur();
return faults;
