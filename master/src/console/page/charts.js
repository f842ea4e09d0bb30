// The plots of the overview, from the sums that the API gives.
"use strict";

// Bytes per second between points, as [at_ms, memory, SSD, HDD, store].
function rates(points) {
  return points.slice(1).map((point, at) => {
    const before = points[at];
    const seconds = Math.max(0.001, (point[0] - before[0]) / 1000);
    return [point[0], ...[1, 2, 3, 4].map((column) => (point[column] - before[column]) / seconds)];
  });
}

const WIDE = 500, HIGH = 180, LEFT = 70, RIGHT = 10, TOP = 10, FOOT = 22;

function frame(label, first, last, steps) {
  const chart = svg("svg", { class: "chart", viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": label });
  steps.forEach((text, at) => {
    const y = HIGH - FOOT - (HIGH - FOOT - TOP) * at / (steps.length - 1);
    chart.append(svg("line", { class: "rule", x1: LEFT, x2: WIDE - RIGHT, y1: y, y2: y }),
      svg("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, text));
  });
  const minutes = Math.max(0, (last - first) / 60000);
  const began = minutes >= 1 ? `${minutes.toFixed(0)} min ago` : `${Math.round(minutes * 60)} s ago`;
  chart.append(svg("text", { x: LEFT, y: HIGH - 6 }, began),
    svg("text", { x: WIDE - RIGHT, y: HIGH - 6, "text-anchor": "end" }, "now"));
  return chart;
}

// A round number of bytes not below the largest rate.
function ceiling(value) {
  let top = 1024;
  while (top < value) top *= top * 2 >= value ? 2 : 4;
  return top;
}

function throughput(points) {
  const moving = rates(points);
  if (moving.length < 2) return [el("p", { class: "empty" }, "The first points come within seconds.")];
  const first = moving[0][0], last = moving[moving.length - 1][0];
  const top = ceiling(Math.max(...moving.map((rate) => rate[1] + rate[2] + rate[3] + rate[4])));
  const x = (at) => (LEFT + (WIDE - LEFT - RIGHT) * (at - first) / Math.max(1, last - first)).toFixed(1);
  const y = (value) => (HIGH - FOOT - (HIGH - FOOT - TOP) * value / top).toFixed(1);
  const chart = frame("bytes served per second", first, last, [0, top / 2, top].map((step) => bytes(step) + "/s"));
  const sums = moving.map(() => 0);
  for (const [column, kind] of [[1, "mem"], [2, "ssd"], [3, "hdd"], [4, "miss"]]) {
    const under = moving.map((rate, at) => `${x(rate[0])},${y(sums[at])}`).reverse();
    const over = moving.map((rate, at) => { sums[at] += rate[column]; return `${x(rate[0])},${y(sums[at])}`; });
    chart.append(svg("polygon", { class: "area-" + kind, points: over.concat(under).join(" ") }));
  }
  const now = moving[moving.length - 1];
  const parts = [["mem", "from memory", now[1]], ["ssd", "from SSD", now[2]], ["hdd", "from HDD", now[3]], ["miss", "from stores", now[4]]];
  if (now[3] === 0) parts.splice(2, 1);
  const legend = parts.map(([kind, name, rate]) =>
    el("li", {}, el("span", { class: "swatch " + kind }), `${name} ${bytes(rate)}/s now`));
  return [chart, el("ul", { class: "legend", id: "throughput-now" }, ...legend)];
}

function hitRateChart(points) {
  const shares = rates(points).map(([at, mem, ssd, hdd, miss]) =>
    [at, mem + ssd + hdd + miss > 0 ? (mem + ssd + hdd) / (mem + ssd + hdd + miss) : null]);
  if (!shares.some((share) => share[1] !== null)) return [el("p", { class: "empty" }, "Nothing was read in the last minutes.")];
  const first = shares[0][0], last = shares[shares.length - 1][0];
  const x = (at) => (LEFT + (WIDE - LEFT - RIGHT) * (at - first) / Math.max(1, last - first)).toFixed(1);
  const y = (value) => (HIGH - FOOT - (HIGH - FOOT - TOP) * value).toFixed(1);
  const chart = frame("share of bytes served from the cache", first, last, ["0 %", "50 %", "100 %"]);
  // Where nothing was read there is no rate: the last one is carried on.
  let known = null;
  const line = [];
  shares.forEach(([at, share], place) => {
    if (share !== null) {
      // The first rate begins with its step: one point would draw nothing.
      if (known === null) line.push(`${x(shares[Math.max(0, place - 1)][0])},${y(share)}`);
      known = share;
    }
    if (known !== null) line.push(`${x(at)},${y(known)}`);
  });
  chart.append(svg("polyline", { class: "stroke", points: line.join(" ") }));
  return [chart];
}
