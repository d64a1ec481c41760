// Reloads the page by itself and changes only the parts that differ: keyboard focus, scroll, selection, opened details
// and unfinished texts stay unchanged.
//
// Every element with the attribute data-live and an id is compared with the element of this id in the new page. Children
// with an id are matched by it, others by their order. The address has auto=1: no person acts, so the session is not
// prolonged. If the node does not answer, the page shows the time of its last load. A person can pause it (WCAG 2.2.2).
"use strict";

(() => {
  const EVERY_MS = 5000;
  const TIMEOUT_MS = 15000;
  let readAt = new Date();
  let paused = false;
  let reading = false;
  let timer;

  const meaningful = (node) => node.nodeType !== Node.TEXT_NODE || node.data.trim() !== "";

  // Nodes

  function renew(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeName !== fresh.nodeName) {
      replace(old, fresh);
    } else if (old.nodeType === Node.ELEMENT_NODE) {
      renewAttributes(old, fresh);
      renewChildren(old, fresh);
    } else {
      old.data = fresh.data;
    }
  }

  function replace(old, fresh) {
    const focused = old.contains(document.activeElement);
    old.replaceWith(document.importNode(fresh, true));
    if (focused) document.getElementById("main").focus({ preventScroll: true });
  }

  function renewAttributes(old, fresh) {
    const stays = (name) => name === "open" && old.nodeName === "DETAILS";
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !stays(name) && name !== "data-changed") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value && !stays(name)) old.setAttribute(name, value);
    }
  }

  function renewChildren(old, fresh) {
    const byId = [...fresh.children].some((child) => child.id);
    const wanted = [...fresh.childNodes].filter((node) => !byId || meaningful(node));
    if (byId) leave(old, new Set(wanted.map((node) => node.id)));
    const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    let place = next(old.firstChild, byId);
    for (const one of wanted) {
      const match = one.id ? known.get(one.id) : place && !place.id && place.nodeName === one.nodeName ? place : null;
      if (!match) {
        place ? old.insertBefore(document.importNode(one, true), place) : old.append(document.importNode(one, true));
        continue;
      }
      if (match === place) place = next(place.nextSibling, byId);
      else old.insertBefore(match, place);
      renew(match, one);
    }
    while (place) {
      const following = next(place.nextSibling, byId);
      remove(place);
      place = following;
    }
  }

  function next(node, byId) {
    while (node && byId && !meaningful(node)) node = node.nextSibling;
    return node;
  }

  function leave(parent, ids) {
    for (const child of [...parent.children]) if (child.id && !ids.has(child.id)) remove(child);
  }

  // The keyboard focus of a removed row moves to the next row, or to the one before.
  function remove(node) {
    if (node.contains(document.activeElement)) {
      const beside = [node.nextElementSibling, node.previousElementSibling].map((one) => one?.querySelector("a, button"));
      (beside.find((one) => one) ?? document.getElementById("main")).focus({ preventScroll: true });
    }
    node.remove();
  }

  // Scroll: the row at the top of the window stays in place when rows above it come or go

  function anchor() {
    if (window.scrollY === 0) return null;
    const rows = document.querySelectorAll("[data-live] [id]");
    const row = [...rows].find((one) => one.getBoundingClientRect().bottom > 0);
    return row && { row, top: row.getBoundingClientRect().top };
  }

  function settle(kept) {
    if (kept?.row.isConnected) window.scrollBy(0, kept.row.getBoundingClientRect().top - kept.top);
  }

  // A text for screen readers about the change, and a mark on changed rows

  const rows = () => new Map([...document.querySelectorAll("[data-live] tr[id]")].map((row) => [row.id, words(row)]));

  function words(row) {
    const copy = row.cloneNode(true);
    copy.querySelectorAll("time").forEach((time) => time.remove());
    return copy.textContent;
  }

  function mark(before) {
    let changed = 0;
    for (const [id, text] of rows()) {
      const row = document.getElementById(id);
      if (before.get(id) === text) row.removeAttribute("data-changed");
      else changed += row.toggleAttribute("data-changed", true);
    }
    const what = document.querySelector("[data-what]")?.dataset.what ?? "row";
    if (changed) say(`${changed} ${what}${changed === 1 ? "" : "s"} changed`);
  }

  // Messages

  const status = document.createElement("span");
  status.setAttribute("role", "status");
  const old = document.createElement("p");
  old.className = "old";
  old.setAttribute("role", "alert");
  const button = document.createElement("button");
  button.type = "button";
  button.id = "pause";

  const clock = (moment) => `${moment.toISOString().slice(11, 19)} UTC`;
  const say = (text) => (status.textContent = text);

  function showProblem(problem, link) {
    old.replaceChildren();
    if (!problem) return old.remove();
    old.append(`Not up to date: ${problem} Read last at ${clock(readAt)}.`);
    if (link) old.append(" ", link);
    if (!old.isConnected) document.getElementById("main").prepend(old);
  }

  function signIn() {
    const link = document.createElement("a");
    link.href = location.href;
    link.textContent = "Sign in again";
    showProblem("the session has ended.", link);
  }

  // Loading

  async function read() {
    const address = new URL(location.href);
    address.searchParams.set("auto", "1");
    const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (new URL(answer.url).pathname !== location.pathname) return ended();
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
  }

  // After the end of the session the page leaves the screen, unless a person has begun to write a reason.
  function ended() {
    const writing = [...document.querySelectorAll("textarea")].some((field) => field.value !== "");
    paused = true;
    if (writing) signIn();
    else location.reload();
  }

  function show(fresh) {
    const kept = anchor();
    const before = rows();
    for (const part of document.querySelectorAll("[data-live][id], #read-at")) {
      const now = fresh.getElementById(part.id);
      if (now) renew(part, now);
    }
    document.title = fresh.title;
    mark(before);
    settle(kept);
    readAt = new Date();
    showProblem("");
    document.dispatchEvent(new Event("live"));
  }

  async function reload() {
    clearTimeout(timer);
    if (!paused && !document.hidden && !reading) {
      reading = true;
      try {
        await read();
      } catch (error) {
        showProblem(error.message.startsWith("status") ? `the node answers with ${error.message}.` : "the node does not answer.");
      }
      reading = false;
    }
    timer = setTimeout(reload, EVERY_MS);
  }

  function pause(wanted) {
    paused = wanted;
    button.textContent = paused ? "Continue" : "Pause";
    button.setAttribute("aria-pressed", String(paused));
    say(paused ? `paused at ${clock(new Date())}` : "");
  }

  function start() {
    if (!document.querySelector("[data-live][id]")) return;
    document.documentElement.classList.add("reads-itself");
    button.addEventListener("click", () => pause(!paused));
    document.querySelector("footer").append(" ", button, " ", status);
    pause(false);
    timer = setTimeout(reload, EVERY_MS);
    document.addEventListener("visibilitychange", reload);
  }

  start();
})();
