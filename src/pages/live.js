// Keeps a page up to date: where its main part names a stream, each message there loads the page anew and puts the new main
// part in the old one's place. Nothing else needs a script; without one, a page is as it was when it was loaded.
"use strict";
(() => {
  const main = document.getElementById("main");
  const state = document.getElementById("live-state");
  if (!main || !main.dataset.live || !window.EventSource) return;

  // How long a stream that was refused is left alone.
  const REST_MS = 5000;
  let source = null;
  let resting = false;
  let loading = false;
  let again = false;

  const say = (text) => { if (state && state.textContent !== text) state.textContent = text; };
  const all = (selector) => [...main.querySelectorAll(selector)];

  const isChanged = (field) =>
    /^(checkbox|radio)$/.test(field.type) ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;

  // Nobody loses what they filled in, or the button that they are about to press.
  const isBusy = () => {
    const at = document.activeElement;
    if (at && main.contains(at) && at.closest("form")) return true;
    return all("input:not([type=hidden]), textarea").some(isChanged);
  };

  // A way to an element that leads to its like in a page that was loaded anew.
  const wayTo = (element) => {
    if (element === main) return "#main";
    if (element.id) return `#${CSS.escape(element.id)}`;
    const near = element.closest("[id]");
    const link = element.getAttribute("href");
    return `#${CSS.escape(near.id)} ${element.localName}${link ? `[href="${CSS.escape(link)}"]` : ""}`;
  };

  // What is unfolded, how far what scrolls is scrolled, and where the focus is.
  const keep = () => {
    const folds = all("details[id]").map((one) => [one.id, one.open]);
    const places = all(".scroll[id]").map((one) => [one.id, one.scrollLeft]);
    const at = document.activeElement;
    const focused = at && main.contains(at) ? wayTo(at) : null;
    return () => {
      for (const [id, open] of folds) {
        const one = document.getElementById(id);
        if (one) one.open = open;
      }
      for (const [id, left] of places) {
        const one = document.getElementById(id);
        if (one) one.scrollLeft = left;
      }
      const like = focused && document.querySelector(focused);
      if (like) like.focus({ preventScroll: true });
    };
  };

  const replace = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("main");
    if (!fresh) return;
    const restore = keep();
    main.replaceChildren(...fresh.childNodes);
    restore();
    if (fresh.dataset.live) {
      main.dataset.live = fresh.dataset.live;
      say("Live");
    } else {
      close();
      delete main.dataset.live;
      say("Up to date");
    }
  };

  const load = async () => {
    if (loading) { again = true; return; }
    if (isBusy()) {
      again = true;
      close();
      say("Something has changed; it is shown once the form is left as it was, or sent");
      return;
    }
    loading = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      const text = await answer.text();
      if (answer.redirected) location.reload();
      else if (!answer.ok) say("Not up to date: the page can't be loaded");
      // Somebody may have begun to type meanwhile.
      else if (isBusy()) again = true;
      else replace(text);
    } catch {
      say("Not up to date: the service can't be reached");
    } finally {
      loading = false;
    }
    open();
    loadWhatWaits();
  };

  const loadWhatWaits = () => setTimeout(() => { if (again && !isBusy()) { again = false; load(); } });

  const close = () => {
    if (source) source.close();
    source = null;
  };

  // Only where somebody looks: a browser has few connections for all of its tabs.
  const open = () => {
    if (source || resting || document.hidden || !main.dataset.live) return;
    const stream = new EventSource(main.dataset.live);
    source = stream;
    stream.addEventListener("open", () => { if (!again) say("Live"); });
    stream.addEventListener("message", load);
    stream.addEventListener("error", () => {
      if (stream !== source) return;
      if (stream.readyState !== EventSource.CLOSED) { say("Connecting again…"); return; }
      close();
      resting = true;
      setTimeout(() => { resting = false; open(); }, REST_MS);
      load();
    });
  };

  for (const kind of ["focusout", "input", "change", "reset"]) main.addEventListener(kind, loadWhatWaits);
  // The stream is asked with what is shown, and so tells at once of what has changed meanwhile.
  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else open(); });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
})();
