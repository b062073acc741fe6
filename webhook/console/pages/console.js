// Keeps a page live. Without it, it shows what there was when it was loaded.
"use strict";
for (const part of document.querySelectorAll("[data-events]")) watch(part.dataset.events);

function watch(address) {
  const lost = document.createElement("p");
  lost.className = "state bad connection";
  lost.hidden = true;
  lost.innerHTML = "<strong role=alert></strong> <span></span>";
  document.querySelector("main").prepend(lost);
  let events, heard = Date.now(), failed = false;
  const connect = () => {
    events = new EventSource(address);
    events.onmessage = (event) => {
      heard = Date.now();
      failed = false;
      tell();
      show(JSON.parse(event.data));
    };
    events.onerror = () => {
      failed = true;
      tell();
    };
  };
  // The server speaks every 2 seconds.
  const tell = () => {
    const silent = Math.round((Date.now() - heard) / 1000);
    const isLost = silent > 6 || (failed && silent > 2);
    const alert = lost.firstChild;
    if (isLost === lost.hidden) {
      lost.hidden = !isLost;
      alert.textContent = isLost ? "Connection lost:" : "";
      document.body.classList.toggle("stale", isLost);
    }
    if (isLost) lost.lastChild.textContent = `data of ${silent} s ago. Trying again…`;
  };
  connect();
  setInterval(() => {
    tell();
    // A browser gives up on an answer that is no stream, such as a proxy's 502.
    if (events.readyState === EventSource.CLOSED) connect();
  }, 1000);
  addEventListener("pagehide", () => events.close());
}

function show(data) {
  for (const [name, html] of Object.entries(data.parts ?? {})) {
    for (const place of document.querySelectorAll(`[data-part="${CSS.escape(name)}"]`)) {
      const focused = place.contains(document.activeElement) && document.activeElement.getAttribute("href");
      place.innerHTML = html; // a part of the page as the server renders it
      copyable(place);
      if (focused) place.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    }
  }
  for (const [name, value] of Object.entries(data)) {
    for (const place of document.querySelectorAll(`[data-live="${CSS.escape(name)}"]`)) {
      if (place.textContent !== String(value)) place.textContent = value;
    }
  }
}

// What was copied with blanks around it is found, too. An address is taken as it is.
for (const search of document.querySelectorAll("form.search")) {
  search.addEventListener("submit", () => {
    for (const input of search.querySelectorAll("input")) input.value = input.value.trim();
  });
}

// Where the browser lets a page write the clipboard, an id has a button for it.
function copyable(place) {
  if (navigator.clipboard) for (const button of place.querySelectorAll("button[data-copy]")) copies(button);
}
copyable(document);

function copies(button) {
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
