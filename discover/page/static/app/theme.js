// Light or dark: as the system has it until someone chooses. Runs before the first paint, so that
// a dark page does not flash white; the choice is kept under the same name by the circuit viewer.
(() => {
  const KEY = "discover-theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // Storage can be forbidden; the choice then lasts as long as the page.
    }
  };
  const root = document.documentElement;
  const now = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const saved = chosen();
  if (saved === "light" || saved === "dark") root.dataset.theme = saved;
  window.discoverTheme = {
    now,
    toggle() {
      root.dataset.theme = now() === "dark" ? "light" : "dark";
      try {
        localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        // See above.
      }
      document.dispatchEvent(new CustomEvent("discover:theme"));
    },
  };
  dark.addEventListener("change", () => document.dispatchEvent(new CustomEvent("discover:theme")));
})();
