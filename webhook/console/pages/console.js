// Keeps the numbers of a page live. Without it they are those of its loading.
"use strict";
for (const part of document.querySelectorAll("[data-events]")) {
  const events = new EventSource(part.dataset.events);
  events.onmessage = (event) => {
    for (const [name, value] of Object.entries(JSON.parse(event.data))) {
      for (const place of document.querySelectorAll(`[data-live="${CSS.escape(name)}"]`)) {
        if (place.textContent !== String(value)) place.textContent = value;
      }
    }
  };
  addEventListener("pagehide", () => events.close());
}

// What was copied with blanks around it is found, too. An address is taken as it is.
for (const search of document.querySelectorAll("form.search")) {
  search.addEventListener("submit", () => {
    for (const input of search.querySelectorAll("input")) input.value = input.value.trim();
  });
}

// Where the browser lets a page write the clipboard, an id has a button for it.
for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const label = button.getAttribute("aria-label");
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      return;
    }
    button.classList.add("done");
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => {
      button.classList.remove("done");
      button.setAttribute("aria-label", label);
    }, 1500);
  });
}

// Times that say how long ago go on as time passes, by the server's clock.
const behind = Date.parse(document.documentElement.dataset.now) - Date.now();
const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
function relative(moment) {
  const seconds = (Date.now() + behind - moment) / 1000;
  const size = Math.abs(seconds);
  if (size >= 30 * 86400) return new Date(moment).toISOString().slice(0, 10);
  const found = units.find((unit) => size >= unit[1]);
  if (!found) return "now";
  const text = `${Math.floor(size / found[1])} ${found[0]}`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}
setInterval(() => {
  for (const time of document.querySelectorAll("time[title]")) {
    const text = relative(Date.parse(time.dateTime));
    if (time.textContent !== text) time.textContent = text;
  }
}, 5000);
