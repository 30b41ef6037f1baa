"use strict";
(() => {
  const root = document.documentElement;
  const find = (selector) => document.querySelector(selector);
  const kept = {
    get: () => { try { return localStorage.getItem("mitate-theme"); } catch { return null; } },
    set: (theme) => { try { localStorage.setItem("mitate-theme", theme); } catch { /* private */ } },
  };

  const button = find("#theme");
  const darkNow = () => root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const show = () => { button.textContent = darkNow() ? "Light" : "Dark"; };
  if (["light", "dark"].includes(kept.get())) root.dataset.theme = kept.get();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = darkNow() ? "light" : "dark";
    kept.set(root.dataset.theme);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();

  const slider = find("#opacity");
  if (slider) {
    const slide = () => {
      root.style.setProperty("--opacity", slider.value / 100);
      find("#opacity-value").textContent = `${slider.value} %`;
    };
    slider.addEventListener("input", slide);
    slide();
  }

  const dialog = find("#large");
  if (!dialog) return;
  const looks = [...document.querySelectorAll(".look")];
  let at = looks[0];
  const enlarge = (look) => {
    at = look;
    dialog.querySelector(".picture").replaceChildren(look.firstElementChild.cloneNode(true));
    dialog.querySelector("p").textContent = look.closest(".panel").dataset.caption;
  };
  const step = (by) => {
    const shown = looks.filter((look) => look.getClientRects().length);  // not what is filtered out
    enlarge(shown[(shown.indexOf(at) + by + shown.length) % shown.length]);
  };
  looks.forEach((look) => look.addEventListener("click", () => {
    enlarge(look);
    dialog.showModal();
  }));
  dialog.querySelector(".back").addEventListener("click", () => step(-1));
  dialog.querySelector(".next").addEventListener("click", () => step(1));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => at.focus());
})();
