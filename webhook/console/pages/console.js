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
