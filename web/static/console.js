// What pages gain where scripts run: copy buttons, times in the reader's own zone,
// and menus that close when left. Every page works without it.
(() => {
  "use strict";

  for (const button of document.querySelectorAll("button[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    if (!source || !navigator.clipboard) continue;
    const label = button.textContent;
    let timer;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
      clearTimeout(timer);
      timer = setTimeout(() => { button.textContent = label; }, 2000);
    });
  }

  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  for (const time of document.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    if ("local" in time.dataset) time.textContent = (time.dataset.local === "seconds" ? exact : full).format(date);
    if ("clock" in time.dataset) time.textContent = clock.format(date);
    if (time.title) time.title = full.format(date);
  }

  const menus = document.querySelectorAll("details.menu");
  document.addEventListener("click", (event) => {
    for (const menu of menus) if (menu.open && !menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of menus) {
      if (!menu.open) continue;
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  // A running update's page loads itself again: the reader stays where they were.
  const key = "scroll " + location.pathname;
  if (document.querySelector("meta[http-equiv=refresh]")) {
    const place = sessionStorage.getItem(key);
    if (place) scrollTo(0, Number(place));
    addEventListener("pagehide", () => sessionStorage.setItem(key, String(scrollY)));
  } else {
    sessionStorage.removeItem(key);
  }
})();
