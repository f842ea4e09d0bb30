// The pages on jobs: the list, and one with its failures.
"use strict";

const STATES = { running: "tag set", done: "tag done", partial: "tag failed", failed: "tag failed", cancelled: "tag" };

function jobState(job) { return el("span", { class: STATES[job.state] || "tag" }, job.state); }

function jobPaths(job) {
  const links = job.paths.flatMap((path, at) => [at > 0 ? el("br") : "", el("a", { href: browseAt(path) }, path)]);
  const more = job.paths_count - job.paths.length;
  return more > 0 ? [...links, el("br"), el("span", { class: "quiet" }, `and ${count(more)} more`)] : links;
}

// The share that is done is known once everything is found; files count where there are no bytes.
function jobProgress(job) {
  const loaded = job.fetched_bytes + job.cached_bytes;
  const [done, all] = job.found_bytes > 0 ? [loaded, job.found_bytes] : [job.files + job.failed, job.found_files];
  if (job.state === "done") return [bar([["ssd", 1]], 1, "100 %"), el("span", { class: "small" }, "100 %")];
  if (job.state === "partial") {
    const label = `${count(job.files)} of ${count(job.found_files)} files`;
    return [bar([["ssd", job.files], ["failing", job.failed]], job.files + job.failed, label), el("span", { class: "small" }, label)];
  }
  if (!job.found_all) return el("span", { class: "quiet" }, `${count(job.found_files)} files found so far`);
  const share = all > 0 ? Math.min(1, done / all) : 0;
  return [bar([["mem", done]], all, percent(share)), el("span", { class: "small" }, percent(share))];
}

function cancelButton(job, allowed) {
  if (job.state !== "running" || !allowed) return "";
  const button = el("button", { type: "button", class: "cancel", "aria-label": `Cancel job ${job.job_id}` }, "Cancel");
  button.addEventListener("click", () => act(`jobs/${job.job_id}/cancel`, `Job ${job.job_id} is cancelled; what is loaded stays.`));
  return button;
}

async function jobs() {
  const asked = new URLSearchParams(location.search);
  if (asked.has("id")) return oneJob(asked.get("id"), asked.get("failures_from") || "0");
  const answer = await ask("jobs");
  const rows = answer.jobs.reverse().map((job) => [
    el("a", { href: `/jobs?id=${job.job_id}` }, String(job.job_id)), jobState(job), jobProgress(job), jobPaths(job),
    count(job.files), job.failed > 0 ? el("span", { class: "bad" }, count(job.failed)) : "0",
    bytes(job.fetched_bytes + job.cached_bytes), date(job.submitted_ms), cancelButton(job, answer.actions_allowed),
  ]);
  return [el("h1", {}, "Jobs"), card(null, table(
    [["Job", "number"], ["State", ""], ["Progress", "wide"], ["Paths", "name"], ["Files", "number"], ["Failed", "number"],
      ["Bytes", "number"], ["Submitted (UTC)", "nowrap"], ["", ""]], rows,
    "No jobs are remembered. Start one: forebay fs load -R --submit /data"))];
}

async function oneJob(id, from) {
  const job = await ask(`jobs/${encodeURIComponent(id)}?` + new URLSearchParams({ failures_from: from }));
  const elapsed = Math.max(1, (job.ended_ms || Date.now()) - job.submitted_ms);
  const loaded = job.fetched_bytes + job.cached_bytes;
  const options = [job.recursive ? "recursive" : "", job.verify ? "verify" : "",
    job.bandwidth_bytes ? `at most ${bytes(job.bandwidth_bytes)}/s` : "", job.replicas > 1 ? `${job.replicas} replicas` : ""].filter((one) => one !== "");
  const pairs = [["files", count(job.files)], ["failed", count(job.failed)], ["found", `${count(job.found_files)} files, ${bytes(job.found_bytes)}`],
    ["fetched", bytes(job.fetched_bytes)], ["cached before", bytes(job.cached_bytes)], [job.ended_ms ? "took" : "runs for", span(elapsed)],
    ["on average", `${bytes(loaded * 1000 / elapsed)}/s`]];
  if (job.verify) pairs.push(["verified", bytes(job.verified_bytes)], ["corrupt pages", count(job.corrupt_pages)]);
  const rows = job.failures.map((failure) => [failure.path, failure.reason]);
  const pager = job.next === null ? null : el("nav", { class: "row pager", "aria-label": "Pages of failures" },
    el("a", { href: `/jobs?id=${job.job_id}&failures_from=${job.next}`, id: "next" }, "Next failures"));
  const dropped = job.failed > job.failures_kept ? el("p", { class: "quiet small" }, `${count(job.failures_kept)} of ${count(job.failed)} are kept by name.`) : null;
  return [el("h1", {}, el("a", { href: "/jobs" }, "Jobs"), ` / ${job.job_id}`),
    card(null, el("div", { class: "row" }, el("h2", {}, job.kind), jobState(job), cancelButton(job, job.actions_allowed)),
      el("p", { class: "paths" }, ...jobPaths(job)), ...[jobProgress(job)].flat(), el("p", {}), figures(pairs),
      el("p", { class: "quiet small" }, `Submitted ${date(job.submitted_ms)} UTC by ${job.submitted_by || "somebody"}`,
        options.length > 0 ? `; ${options.join(", ")}` : ""),
      job.last_error ? el("p", { class: "bad" }, `Last trouble: ${job.last_error}`) : null),
    job.failed > 0 || rows.length > 0 ? card("Failures", table([["Path", "name"], ["Reason", "wide"]], rows, "None are kept by name."), dropped, pager) : null];
}
