// Asked for where the server demands a token.

import { post } from "./api.js";
import { fill, h, notice, set } from "./dom.js";

export function showLogin(container, message, done) {
  document.title = "Log in - discover";
  const problem = h("div", { id: "login-problem" });
  const token = h("input", {
    id: "token", name: "token", type: "password", autocomplete: "current-password", required: true,
    "aria-describedby": "token-hint login-problem",
  });
  const send = h("button.primary", { type: "submit" }, "Log in");
  const submit = async (event) => {
    event.preventDefault();
    send.disabled = true;
    fill(problem);
    try {
      await post("login", { token: token.value });
      done();
    } catch (error) {
      set(token, "aria-invalid", "true");
      fill(problem, notice("error", error.status === 401 ? "That is not this server's token." : error.message));
      token.select();
      token.focus();
    } finally {
      send.disabled = false;
    }
  };
  fill(container,
    h("h1", { tabindex: "-1" }, "Log in"),
    h("form.narrow", { onsubmit: submit },
      h("div.field", null,
        h("label", { for: "token" }, "Token"),
        token,
        h("p.hint", { id: "token-hint" }, "The server's DISCOVER_TOKEN; whoever started it knows it.")),
      problem,
      h("div.actions", null, send)),
    message && !/token/i.test(message) ? h("p.hint", null, message) : null);
  token.focus();
}
