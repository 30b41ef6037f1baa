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
  let at = 0;
  const enlarge = (index) => {
    at = (index + looks.length) % looks.length;
    dialog.querySelector(".picture").replaceChildren(looks[at].firstElementChild.cloneNode(true));
    dialog.querySelector("p").textContent = looks[at].closest(".panel").dataset.caption;
  };
  looks.forEach((look, index) => look.addEventListener("click", () => {
    enlarge(index);
    dialog.showModal();
  }));
  dialog.querySelector(".back").addEventListener("click", () => enlarge(at - 1));
  dialog.querySelector(".next").addEventListener("click", () => enlarge(at + 1));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") enlarge(at - 1);
    if (event.key === "ArrowRight") enlarge(at + 1);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => looks[at].focus());
})();
