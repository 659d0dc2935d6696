// Keeps a page up to date: where its main part names a stream, each message there loads the page anew and puts the new main
// part in the old one's place. Nothing else needs a script; without one, a page is as it was when it was loaded.
"use strict";
(() => {
  const main = document.getElementById("main");
  const state = document.getElementById("live-state");
  const address = main && main.dataset.live;
  if (!address || !window.EventSource) return;

  const source = new EventSource(address);
  let loading = false;
  let again = false;

  const say = (text) => { if (state) state.textContent = text; };

  // Whoever types isn't disturbed.
  const isBusy = () => {
    const at = document.activeElement;
    return at && main.contains(at) && /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName);
  };

  const replace = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("main");
    if (!fresh) return;
    const open = new Set([...main.querySelectorAll("details[open][id]")].map((one) => one.id));
    const focused = document.activeElement && main.contains(document.activeElement) ? document.activeElement.id : "";
    main.replaceChildren(...fresh.childNodes);
    for (const id of open) {
      const one = document.getElementById(id);
      if (one) one.open = true;
    }
    if (focused && document.getElementById(focused)) document.getElementById(focused).focus();
    if (!fresh.dataset.live) stop("Up to date");
  };

  const stop = (text) => {
    source.close();
    delete main.dataset.live;
    say(text);
  };

  const load = async () => {
    if (loading) { again = true; return; }
    if (isBusy()) { again = true; return; }
    loading = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.redirected) location.reload();
      else if (answer.ok) replace(await answer.text());
    } catch {
      say("Not up to date: the service can't be reached");
    } finally {
      loading = false;
    }
    if (again) { again = false; load(); }
  };

  main.addEventListener("focusout", () => setTimeout(() => { if (again && !isBusy()) { again = false; load(); } }));
  source.addEventListener("open", () => say("Live"));
  source.addEventListener("message", load);
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) { if (main.dataset.live) load(); } else say("Connecting again…");
  });
  addEventListener("pagehide", () => source.close());
})();
