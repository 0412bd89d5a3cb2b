// Keeps what changes up to date, and sends a form once. Without it pages reload by themselves.
"use strict";

function poll(place) {
  const every = Number(place.dataset.every);
  async function again() {
    try {
      const answer = await fetch(place.dataset.poll, { credentials: "same-origin" });
      if (answer.redirected) {
        location.reload();
        return;
      }
      if (answer.ok) {
        const text = await answer.text();
        // Whoever is about to press something there keeps it.
        if (place.dataset.shown !== text && !place.contains(document.activeElement)) {
          place.innerHTML = text;
          place.dataset.shown = text;
        }
        if (place.querySelector("[data-ended]")) {
          location.reload();
          return;
        }
      }
    } catch (error) {
      // A server that is away for a moment is asked again.
    }
    setTimeout(again, document.hidden ? 4 * every : every);
  }
  setTimeout(again, every);
}

for (const place of document.querySelectorAll("[data-poll]")) {
  poll(place);
}

for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", () => {
    // After the browser has collected the form.
    setTimeout(() => form.querySelectorAll("button").forEach((one) => { one.disabled = true; }), 0);
  });
}
window.addEventListener("pageshow", () => {
  document.querySelectorAll("form[data-once] button").forEach((one) => { one.disabled = false; });
});
