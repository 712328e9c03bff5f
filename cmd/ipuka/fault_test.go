package main

// pageFaults is a script that lists what every page must not have: what keeps a
// reader who cannot see, or cannot use a mouse, from using it.
const pageFaults = `(() => {
	const faults = [], all = (selector) => [...document.querySelectorAll(selector)];
	const plain = (text) => (text || "").replace(/\s+/g, " ").trim();
	const show = (e) => e.outerHTML.replace(/\s+/g, " ").slice(0, 160);
	const fault = (text, e) => faults.push(e ? text + ": " + show(e) : text);

	const headings = all("h1");
	if (headings.length !== 1 || !plain(headings[0].textContent)) fault(headings.length + " headings h1");
	if (!document.documentElement.lang) fault("no language");
	if (!plain(document.title)) fault("no title");
	if (all("main").length !== 1) fault("no single main");
	let level = 0;
	for (const h of all("h1, h2, h3, h4")) {
		if (h.tagName[1] - level > 1) fault("a level of headings is left out", h);
		level = Number(h.tagName[1]);
	}

	const named = (e) => plain(e.getAttribute("aria-label")) ||
		plain((e.getAttribute("aria-labelledby") || "").split(" ").map((id) => (document.getElementById(id) || {}).textContent).join(" ")) ||
		plain([...(e.labels || [])].map((l) => l.textContent).join(" "));
	for (const e of all("input:not([type=hidden]), select, textarea")) if (!named(e)) fault("no label", e);
	for (const e of all("a[href], button, summary"))
		if (!plain(e.textContent) && !named(e) && ![...e.querySelectorAll("img")].some((i) => plain(i.alt))) fault("no name", e);
	for (const e of all("img:not([alt])")) fault("no text for an image", e);
	for (const e of all("nav, section")) if (e.tagName === "NAV" && !named(e)) fault("no name", e);
	for (const e of all("table th:not([scope])")) fault("no scope", e);
	for (const e of all("[style]")) fault("an inline style, which the policy refuses", e);

	const ids = new Set();
	for (const e of all("[id]")) {
		if (ids.has(e.id)) fault("two elements of one id", e);
		ids.add(e.id);
	}
	for (const e of all("[for], [aria-labelledby], [aria-describedby], [data-copy]"))
		for (const name of ["for", "aria-labelledby", "aria-describedby", "data-copy"])
			for (const id of (e.getAttribute(name) || "").split(" ").filter(Boolean)) if (!ids.has(id)) fault(name + " names nothing", e);

	// Contrast as WCAG 2.1 §1.4.3 has it: 4.5 to 1, and 3 to 1 for large text.
	const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true}), known = new Map();
	const rgba = (color) => {
		if (!known.has(color)) {
			canvas.clearRect(0, 0, 1, 1);
			canvas.fillStyle = color;
			canvas.fillRect(0, 0, 1, 1);
			known.set(color, [...canvas.getImageData(0, 0, 1, 1).data]);
		}
		return known.get(color);
	};
	const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] / 255 + below[i] * (1 - top[3] / 255));
	const luminance = (color) => {
		const [r, g, b] = color.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const background = (e) => {
		if (!e) return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
		const own = rgba(getComputedStyle(e).backgroundColor);
		return own[3] === 255 ? own.slice(0, 3) : over(own, background(e.parentElement));
	};
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), seen = new Set();
	for (let node = texts.nextNode(); node; node = texts.nextNode()) {
		const e = node.parentElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
		if (!plain(node.data) || !e.checkVisibility() || box.width < 2 || box.height < 2) continue;
		const behind = background(e), own = luminance(over(rgba(style.color), behind)), other = luminance(behind);
		const ratio = (Math.max(own, other) + 0.05) / (Math.min(own, other) + 0.05), size = parseFloat(style.fontSize);
		const least = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5, key = e.className + style.color + behind;
		if (ratio < least && !seen.has(key)) {
			seen.add(key);
			fault("contrast " + ratio.toFixed(2), e);
		}
	}
	return faults;
})()`

// tooWide is a script that lists what reaches over a screen's right edge, with
// everything that can be opened open and without it. It takes the screen's width.
const tooWide = `((width) => {
	const show = (e) => e.outerHTML.replace(/\s+/g, " ").slice(0, 160);
	const look = () => {
		if (document.documentElement.scrollWidth <= width && document.body.scrollWidth <= width) return [];
		return [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > width + 1).slice(0, 3).map(show)
			.concat("the page scrolls sideways, " + document.documentElement.scrollWidth + " px");
	};
	const closed = [...document.querySelectorAll("details:not([open])")], found = look();
	for (const e of closed) e.open = true;
	const opened = look();
	for (const e of closed) e.open = false;
	return found.concat(opened);
})(%d)`
