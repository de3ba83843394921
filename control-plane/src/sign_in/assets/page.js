"use strict";
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
const invited = token.startsWith("vi_");
const title = document.getElementById("title");
const text = document.getElementById("text");
const button = document.getElementById("go");
// The token must not stay in the address bar or in the history.
history.replaceState(null, "", location.pathname);

function show(heading, words) {
  document.title = heading;
  title.textContent = heading;
  text.textContent = words;
}

async function signIn() {
  button.disabled = true;
  try {
    const answer = await fetch("/v1/dashboard/auth/tokens", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
    const body = await answer.json();
    if (!answer.ok) {
      button.hidden = true;
      show("That did not work", body.detail);
      return;
    }
    button.hidden = true;
    const joined = body.workspace ? ` You are now a member of ${body.workspace.name}.` : "";
    show("Signed in", `You are signed in as ${body.user.email}.${joined}`);
  } catch {
    button.disabled = false;
    show("That did not work", "The server cannot be reached. Try again.");
  }
}

if (token.startsWith("vm_") || invited) {
  const here = location.host;
  button.textContent = invited ? "Accept" : "Sign in";
  button.hidden = false;
  button.addEventListener("click", signIn);
  if (invited) {
    show("Accept the invitation", `You will join a workspace on ${here} and be signed in there.`);
  } else {
    show("Sign in", `You will be signed in on ${here}, in this browser.`);
  }
} else {
  show("No link", "Open this page by the link in a mail that you were sent.");
}
