// Draws what the overview's stream brings. Everything else on these pages is plain HTML, refreshed by htmx.
"use strict";

const SPAN = 600; // points: twenty minutes at one each two seconds

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function drawRates(place, live) {
  const data = [[], [], []];
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  const plot = new uPlot({
    width: place.clientWidth,
    height: 180,
    axes: [axis, axis],
    scales: { y: { range: (_, low, high) => [0, Math.max(1, high)] } },
    series: [
      {},
      { label: "events/s", stroke: colour("--link"), width: 2 },
      { label: "deliveries/s", stroke: colour("--good"), width: 2 },
    ],
  }, data, place);

  const take = () => {
    const rates = live.querySelector("#rates");
    if (!rates) return;
    const at = Number(rates.dataset.at);
    if (data[0].length && at <= data[0][data[0].length - 1]) return;
    data[0].push(at);
    data[1].push(Number(rates.dataset.events));
    data[2].push(Number(rates.dataset.deliveries));
    if (data[0].length > SPAN) data.forEach((series) => series.shift());
    plot.setData(data);
  };
  new MutationObserver(take).observe(live, { childList: true });
  window.addEventListener("resize", () => plot.setSize({ width: place.clientWidth, height: 180 }));
  take();
}

document.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("chart");
  const live = document.getElementById("live");
  if (place && live && window.uPlot) drawRates(place, live);
});
