// Makes a page that already works feel live. No page needs it.
const one = (query, root = document) => root.querySelector(query);
const on = (name, act, target = window) => target.addEventListener(name, act);

// Colours without a reload, and on error pages, which do not know their reader.
const colours = one(".themes");
const { dataset } = document.documentElement;
const kept = /theme=(dark|light)/.exec(document.cookie);
if (kept) dataset.theme = kept[1];
if (colours) on("submit", (event) => {
  event.preventDefault();
  const set = event.submitter.value;
  document.cookie = `theme=${set};path=/;max-age=31536000;samesite=lax`;
  if (set === "auto") delete dataset.theme;
  else dataset.theme = set;
  for (const button of colours.querySelectorAll("button")) button.ariaPressed = button.value === set;
}, colours);

// The menu closes on Escape and when one goes elsewhere.
const menu = one("details.who");
if (menu) {
  const leave = ({ target }) => menu.contains(target) || (menu.open = false);
  on("click", leave);
  on("focusin", leave);
  on("keydown", ({ key }) => {
    if (key === "Escape" && menu.open) (menu.open = false), one("summary", menu).focus();
  });
}

// A form sent twice in a row is sent once.
on("submit", (event) => {
  const { target: form, defaultPrevented: handled } = event;
  if (handled || form.method !== "post") return;
  if (form.sent) event.preventDefault();
  form.sent = true;
});
on("pageshow", () => { for (const form of document.forms) form.sent = false; });

// A countdown, measured from when the page came.
const clock = one("[data-left-ms]");
if (clock) {
  const end = performance.now() + +clock.dataset.leftMs;
  const tick = () => {
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    clock.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    left ? setTimeout(tick, 1000) : location.reload();
  };
  tick();
}

// Live: one stream, closed while nobody looks.
const live = one("[data-live]"), list = one("[data-comments]"), button = one(".fresh .button");
const waiting = [];
let stream, timer, wait = 1000, opened = "opened=true";

const shut = () => { clearTimeout(timer); stream?.close(); stream = null; };
const open = () => {
  if (stream || document.hidden) return;
  const newest = waiting[0]?.id ?? one("li[id]", list ?? live)?.id.slice(8);
  stream = new EventSource(`${live.dataset.live}?${newest ? `after=${newest}&` : ""}${opened}`);
  stream.onopen = () => { wait = 1000; opened = ""; };
  stream.onerror = () => {
    if (stream.readyState !== 2) return;
    shut();
    timer = setTimeout(open, wait * (1 + Math.random()));
    wait = Math.min(wait * 2, 60000);
  };
  on("seats", ({ data }) => seats(JSON.parse(data)), stream);
  on("comment", ({ data }) => comment(JSON.parse(data)), stream);
  on("hide", ({ data }) => one(`#comment-${data}`)?.remove(), stream);
  on("ready", () => location.reload(), stream);
};
if (live) {
  on("visibilitychange", () => (document.hidden ? shut() : open()), document);
  on("pagehide", shut);
  on("pageshow", open);
  open();
}

function seats({ words, width, low }) {
  const line = one("[data-seats]"), gauge = one(".gauge");
  if (!line || line.textContent === words) return;
  line.textContent = words;
  gauge.classList.toggle("low", low);
  one("rect", gauge).setAttribute("width", width);
}

// Nothing moves under a reader who has scrolled: comments wait behind a button.
function comment(said) {
  if (!list || one(`#comment-${said.id}`) || waiting.some(({ id }) => id === said.id)) return;
  waiting.unshift(said);
  if (scrollY < 80 || list.getBoundingClientRect().top > innerHeight) return show();
  button.textContent = `${waiting.length} new comment${waiting.length > 1 ? "s" : ""}`;
  button.hidden = false;
}

function show() {
  one(".empty", list)?.remove();
  list.insertAdjacentHTML("afterbegin", waiting.splice(0).map(({ html }) => html).join(""));
  button.hidden = true;
}
if (button) button.onclick = () => {
  show();
  list.scrollIntoView();
  one("li a", list).focus({ preventScroll: true });
};
