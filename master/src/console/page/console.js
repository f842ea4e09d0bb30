// The console's script: reads the API, shows one page. Whatever comes from the cluster becomes text, never markup.
// The page loads charts.js and jobs.js first; their functions are called from here.
"use strict";

const EVERY_MS = 2000;
const TOKEN = "forebay-token";

// ---- elements ----

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function card(title, ...children) {
  return el("section", { class: "card" }, title ? el("h2", {}, title) : null, ...children);
}

function table(columns, rows, empty) {
  if (rows.length === 0) return el("p", { class: "empty" }, empty);
  const heads = columns.map(([name, kind]) => el("th", { scope: "col", class: kind }, name));
  const cells = (row) => row.map((cell, at) => el("td", { class: columns[at][1] }, ...[cell].flat()));
  return el("div", { class: "table" }, el("table", {},
    el("thead", {}, el("tr", {}, ...heads)),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells(row))))));
}

function bar(parts, whole, label) {
  const spans = parts.map(([kind, part]) => {
    const span = el("span", { class: kind });
    span.style.width = `${whole > 0 ? Math.min(100, (part / whole) * 100) : 0}%`;
    return span;
  });
  return el("div", { class: "bar", role: "img", "aria-label": label }, ...spans);
}

// ---- units for people ----

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function bytes(count) {
  let value = count, unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

function count(number) { return number.toLocaleString("en"); }

function percent(share) { return share === null ? "-" : `${(share * 100).toFixed(1)} %`; }

function span(ms) {
  const seconds = Math.round(ms / 1000);
  if (ms < 1000) return `${ms} ms`;
  if (seconds < 120) return ms < 10000 && ms % 1000 !== 0 ? `${(ms / 1000).toFixed(1)} s` : `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

function date(ms) {
  const when = new Date(ms);
  return Number.isNaN(when.getTime()) ? "-" : when.toISOString().slice(0, 19).replace("T", " ");
}

function tierClass(tier) { return tier.toLowerCase(); }

function browseAt(path) { return "/browse?path=" + encodeURIComponent(path); }

// ---- the API ----

async function ask(call, options) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = "Bearer " + token;
  let answer;
  try {
    answer = await fetch("/api/v1/" + call, { ...options, headers });
  } catch (error) {
    throw new Error("the master does not answer: is it running?");
  }
  const text = await answer.text();
  let value = null;
  try { value = JSON.parse(text); } catch (error) { /* said in plain text below */ }
  if (answer.ok && value) return value;
  const failed = new Error(value && value.error ? value.error.message : text.trim() || `status ${answer.status}`);
  failed.status = answer.status;
  throw failed;
}

// ---- overview ----

function troubles(list) {
  if (list.length === 0) return null;
  const lines = list.map((one) => el("li", {}, el("a", { href: one.page }, one.what), ": ", one.message));
  const box = card(list.length === 1 ? "One trouble" : `${list.length} troubles`, el("ul", {}, ...lines));
  box.classList.add("trouble");
  box.id = "troubles";
  return box;
}

function usage(tiers) {
  if (tiers.length === 0) return el("p", { class: "empty" }, "No live worker has reported.");
  return tiers.map((tier) => {
    const used = `${bytes(tier.used_bytes)} of ${bytes(tier.capacity_bytes)}`;
    const share = tier.capacity_bytes > 0 ? percent(tier.used_bytes / tier.capacity_bytes) : "-";
    return el("div", { class: "tier" }, el("div", { class: "row" }, el("strong", {}, tier.tier), el("span", {}, used),
      el("span", { class: "quiet" }, share)),
      bar([[tierClass(tier.tier), tier.used_bytes]], tier.capacity_bytes, `${tier.tier}: ${used}`));
  });
}

function hits(rate, counters) {
  if (rate.mem === null) return [el("p", { class: "empty" }, "Nothing was read through a live worker.")];
  const parts = [["mem", "memory", rate.mem, counters.mem_hit_bytes], ["ssd", "SSD", rate.ssd, counters.ssd_hit_bytes],
    ...(counters.hdd_hit_bytes > 0 ? [["hdd", "HDD", rate.hdd, counters.hdd_hit_bytes]] : []),
    ["miss", "store", rate.miss, counters.miss_bytes]];
  const legend = parts.map(([kind, name, share, served]) =>
    el("li", {}, el("span", { class: "swatch " + kind }), `${name} ${percent(share)} (${bytes(served)})`));
  return [
    el("div", { class: "row" }, el("strong", { id: "hit-rate" }, percent(rate.mem + rate.ssd + rate.hdd)), el("span", { class: "quiet" },
      "of the bytes served came from the cache")),
    bar(parts.map(([kind, , share]) => [kind, share]), 1, "bytes served by source"),
    el("ul", { class: "legend" }, ...legend),
  ];
}

function figures(pairs) {
  return el("dl", { class: "figures" }, ...pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

async function overview() {
  const [now, history] = await Promise.all([ask("overview"), ask("history")]);
  const workers = `${now.workers.live} of ${now.workers.known}`;
  return [
    el("h1", {}, "Overview"),
    troubles(now.troubles) || el("p", { class: "good", id: "troubles" }, "No troubles."),
    el("div", { class: "grid" }, card("Capacity", ...[usage(now.tiers)].flat()), card("Hits since the workers started", ...hits(now.hit_rate, now.counters))),
    el("div", { class: "grid" }, card("Served", ...throughput(history.points)), card("From the cache", ...hitRateChart(history.points))),
    card("Cluster", figures([
      ["workers live", workers], ["mounts", count(now.mounts)], ["inodes", count(now.inodes)],
      ["journal index", count(now.journal_index)], ["master resident", bytes(now.master_resident_bytes)],
      ["workers resident", bytes(now.counters.resident_bytes)], ["read from stores", bytes(now.counters.store_read_bytes)],
      ["master up", span(now.uptime_ms)],
    ]), el("p", { class: "quiet small" }, `Forebay ${now.version}, cluster `, el("code", {}, now.cluster_id), `, map epoch ${now.epoch}`)),
  ];
}

// ---- files ----

function crumbs(path) {
  const parts = path.split("/").filter((part) => part !== "");
  const nodes = [el("a", { class: "root", href: "/browse" }, "/")];
  parts.forEach((part, at) => {
    if (at > 0) nodes.push(" / "); else nodes.push(" ");
    const whole = "/" + parts.slice(0, at + 1).join("/");
    nodes.push(at === parts.length - 1 ? el("span", {}, part) : el("a", { href: browseAt(whole) }, part));
  });
  return el("h1", {}, ...nodes);
}

function cached(entry) {
  if (entry.cached === null) return "";
  if (entry.size === 0) return el("span", { class: "quiet" }, "empty");
  const held = entry.cached;
  const share = Math.min(1, held.any_bytes / entry.size);
  const label = `${percent(share)}: ${bytes(held.mem_bytes)} in memory, ${bytes(held.ssd_bytes)} on SSD` + (held.hdd_bytes > 0 ? `, ${bytes(held.hdd_bytes)} on HDD` : "");
  if (held.any_bytes === 0) return el("span", { class: "quiet" }, "not cached");
  const onlySsd = Math.max(0, held.any_bytes - held.mem_bytes - held.hdd_bytes);
  return [bar([["mem", held.mem_bytes], ["ssd", onlySsd], ["hdd", Math.min(held.hdd_bytes, held.any_bytes - held.mem_bytes)]], entry.size, label), el("span", { class: "small" }, label)];
}

async function browse() {
  const asked = new URLSearchParams(location.search);
  const path = asked.get("path") || "/";
  const after = asked.get("after") || "";
  const field = el("input", { type: "text", name: "path", value: path, "aria-label": "Path", spellcheck: "false" });
  const form = el("form", { class: "path", action: "/browse", method: "get" }, field, el("button", { type: "submit" }, "Go"));
  let part;
  try {
    part = await ask("browse?" + new URLSearchParams({ path, after }));
  } catch (error) {
    return [crumbs(path), form, card(null, el("p", { class: "bad", id: "browse-problem" }, error.message))];
  }
  const base = part.path === "/" ? "" : part.path;
  const name = (entry) => {
    const whole = part.kind === "file" ? part.path : base + "/" + entry.name;
    const shown = entry.kind === "directory" ? entry.name + "/" : entry.name;
    return [el("a", { href: browseAt(whole) }, shown), entry.is_mount ? " " : "", entry.is_mount ? el("span", { class: "tag" }, "mount") : ""];
  };
  const rows = part.entries.map((entry) => [
    name(entry), entry.kind === "directory" ? "" : bytes(entry.size), cached(entry),
    entry.mtime_ms === 0 ? "" : date(entry.mtime_ms),
  ]);
  const pager = el("nav", { class: "row pager", "aria-label": "Pages of this directory" });
  if (after !== "") pager.append(el("a", { href: browseAt(path) }, "From the start"));
  if (part.next !== null) {
    pager.append(el("a", { href: browseAt(path) + "&after=" + encodeURIComponent(part.next), rel: "next", id: "next" }, "Next page"));
  }
  const silent = part.silent_workers.length === 0 ? null : el("p", { class: "bad" },
    `Not counted, because they do not answer: worker ${part.silent_workers.join(", ")}`);
  return [crumbs(part.path), form, silent, card(null,
    table([["Name", "name"], ["Size", "number"], ["Cached", "wide"], ["Modified (UTC)", "nowrap"]], rows,
      path === "/" ? "Nothing is mounted yet: forebay fs mount /data s3://BUCKET" : "This directory is empty."), pager.hasChildNodes() ? pager : null)];
}

// ---- workers, mounts, configuration ----

function health(trouble) {
  return trouble === "" ? el("span", { class: "good" }, "ok") : el("span", { class: "bad" }, trouble);
}

async function workers() {
  const list = (await ask("workers")).workers;
  if (list.length === 0) {
    return [el("h1", {}, "Workers"), card(null, el("p", { class: "empty" }, "No worker has joined: start one with forebay worker."))];
  }
  return [el("h1", {}, "Workers"), ...list.map((worker) => {
    const state = worker.live ? el("span", { class: "good" }, "live") : el("span", { class: "bad" }, `silent for ${span(worker.silent_ms)}`);
    const tiers = worker.tiers.map((tier) => {
      const share = tier.capacity_bytes > 0 ? tier.used_bytes / tier.capacity_bytes : null;
      return [tier.tier, tier.directory === "" ? el("span", { class: "quiet" }, "memory") : el("span", { class: "code" }, tier.directory),
        bytes(tier.capacity_bytes), bytes(tier.used_bytes),
        bar([[tierClass(tier.tier), tier.used_bytes]], tier.capacity_bytes, percent(share)), percent(share), health(tier.trouble)];
    });
    const rate = worker.hit_rate, counters = worker.counters;
    return card(null, el("div", { class: "row" }, el("h2", {}, worker.addresses[0] || "worker"), state,
      el("span", { class: "quiet small" }, "id ", el("code", {}, worker.worker_id),
        `, ${worker.addresses.length === 1 ? "1 core" : worker.addresses.length + " cores"}, weight ${worker.weight}`)),
      table([["Tier", ""], ["Directory", "name"], ["Capacity", "number"], ["Used", "number"], ["", "wide"], ["", "number"], ["Health", ""]], tiers,
        "It has not reported its tiers yet."),
      el("p", {}), figures([
        ["memory hits", percent(rate.mem)], ["SSD hits", percent(rate.ssd)], ["HDD hits", percent(rate.hdd)], ["misses", percent(rate.miss)],
        ["read from stores", bytes(counters.store_read_bytes)], ["evicted pages", count(counters.evicted_pages)],
        ["corrupt units", count(counters.corrupt_units)], ["misrouted requests", count(counters.misrouted_requests)],
        ["resident", bytes(counters.resident_bytes)],
      ]));
  })];
}

async function mounts() {
  const list = (await ask("mounts")).mounts;
  const rows = list.map((mount) => [
    el("a", { href: browseAt(mount.path) }, mount.path), el("span", { class: "code" }, mount.uri), health(mount.trouble),
    mount.freshness_ms === null ? "never asked again" : mount.freshness_ms === 0 ? "always asked" : span(mount.freshness_ms),
    mount.options.length === 0 && !mount.readonly ? el("span", { class: "quiet" }, "none")
      : [mount.readonly ? el("span", { class: "tag" }, "read-only") : null, ...mount.options.flatMap((option, at) => [at > 0 ? el("br") : null, el("span", { class: "code" }, `${option.name}=${option.value}`)])].filter((part) => part !== null),
  ]);
  return [el("h1", {}, "Mounts"), card(null, table(
    [["Path", "name"], ["Store", "name"], ["Health", "wide"], ["Freshness", "nowrap"], ["Options", ""]], rows,
    "Nothing is mounted yet: forebay fs mount /data s3://BUCKET"))];
}

async function config() {
  const list = (await ask("config")).settings;
  const rows = list.map((row) => [el("span", { class: "code" }, row.name), el("span", { class: "code" }, row.value),
    el("span", { class: row.origin === "default" ? "tag" : "tag set" }, row.origin), row.doc]);
  return [el("h1", {}, "Configuration"),
    el("p", { class: "quiet" }, "As this master sees it. A flag beats the environment beats the file beats the default. Secrets are named by their file only."),
    card(null, table([["Setting", "nowrap"], ["Value", "name"], ["From", "nowrap"], ["Meaning", "wide"]], rows, "No settings."))];
}

// ---- access ----

const access = document.getElementById("access");
const dialog = document.getElementById("token");

function showAccess() {
  access.textContent = sessionStorage.getItem(TOKEN) ? "Token in use" : "Read-only";
}

// What waits for a token; done once there is one.
let waiting = null;

function askToken(why) {
  document.getElementById("token-problem").textContent = why;
  if (!dialog.open) dialog.showModal();
}

access.addEventListener("click", () => { waiting = null; askToken(""); });
// Not on "close": browsers tell of it only with their next frame, when another call may wait already.
dialog.addEventListener("cancel", () => { waiting = null; });

// Changes something; asks for the token if it takes one.
async function act(call, success) {
  try {
    await ask(call, { method: "POST" });
    say(success, false);
  } catch (error) {
    if (error.status === 401) {
      waiting = () => act(call, success);
      askToken(sessionStorage.getItem(TOKEN) ? error.message : "This needs the token.");
      return;
    }
    say(error.message, true);
  }
  refresh();
}

dialog.querySelector("form").addEventListener("submit", async (event) => {
  const wanted = event.submitter ? event.submitter.value : "use";
  if (wanted === "close") {
    waiting = null;
    return;
  }
  event.preventDefault();
  const text = document.getElementById("token-text");
  sessionStorage.removeItem(TOKEN);
  if (wanted === "use") {
    sessionStorage.setItem(TOKEN, text.value.trim());
    try {
      await ask("token", { method: "POST" });
    } catch (error) {
      sessionStorage.removeItem(TOKEN);
      document.getElementById("token-problem").textContent = error.message;
      showAccess();
      return;
    }
  }
  text.value = "";
  const next = wanted === "use" ? waiting : null;
  waiting = null;
  dialog.close();
  showAccess();
  if (next) await next(); else refresh();
});

// ---- pages ----

const PAGES = { "/": [overview, true], "/browse": [browse, false], "/workers": [workers, true], "/mounts": [mounts, true],
  "/jobs": [jobs, true], "/config": [config, false] };
const [show, live] = PAGES[location.pathname] || PAGES["/"];
const main = document.getElementById("main");
const problem = document.getElementById("problem");
const said = document.getElementById("said");
let asking = false;

// What became of the last action.
function say(message, failed) {
  said.textContent = message;
  said.classList.toggle("failed", failed);
  said.hidden = false;
}

// Puts the new page in place; what had the focus has it again.
function replace(nodes) {
  const links = () => [...main.querySelectorAll("a, button, input, select")];
  const at = links().indexOf(document.activeElement);
  main.replaceChildren(...nodes.filter((node) => node !== null));
  if (at >= 0 && links()[at]) links()[at].focus({ preventScroll: true });
}

async function refresh() {
  if (asking) return;
  asking = true;
  try {
    replace(await show());
    problem.hidden = true;
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
    if (error.status === 401 && !dialog.open) askToken("");
  } finally {
    asking = false;
  }
}

for (const link of document.querySelectorAll("header nav a")) {
  if (link.getAttribute("href") === location.pathname) {
    link.setAttribute("aria-current", "page");
    if (location.pathname !== "/") document.title = link.textContent + " - Forebay";
  }
}
showAccess();
refresh();
if (live) setInterval(() => { if (!document.hidden) refresh(); }, EVERY_MS);
