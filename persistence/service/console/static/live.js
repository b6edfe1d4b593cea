// The page of what happens as it happens: the service's own client, and a list that ends somewhere.
import { Streams } from "./streams.js";

const MOST = 200;
const place = document.getElementById("stream");
const rows = place.querySelector("tbody");
const state = document.getElementById("stream-state");
const form = document.getElementById("stream-form");
const streams = new Streams("/console/streams/socket");
let stop = null;

function say(text) { state.textContent = text; }

function cell(row, text, link = null) {
  const td = row.insertCell();
  if (link) {
    const a = td.appendChild(document.createElement("a"));
    a.href = link;
    a.textContent = text;
  } else td.textContent = text;
}

function show({ event, message, position }) {
  const row = rows.insertRow(0);
  row.title = position;
  if (event) {
    cell(row, event.occurred_at.slice(11, 23));
    cell(row, event.event_type);
    cell(row, event.actor);
    cell(row, JSON.stringify(event.event_data).slice(0, 160), `/console/find?text=${event.aggregate_id}`);
  } else {
    cell(row, message.at.slice(11, 23));
    cell(row, message.channel);
    cell(row, message.actor);
    cell(row, JSON.stringify(message.content).slice(0, 160));
  }
  while (rows.rows.length > MOST) rows.deleteRow(-1);
}

function follow(channel, after = null) {
  stop?.();
  rows.replaceChildren();
  stop = streams.follow(channel, show, {
    after,
    notice: (said) => say(said.is === "error" ? `${said.detail}${said.hint ? `: ${said.hint}` : ""}` : said.is.replace("_", " ")),
  });
}

function count({ metrics }) {
  document.getElementById("stream-rate").textContent = metrics.events_a_second.toFixed(1);
  document.getElementById("stream-runs").textContent =
    Object.entries(metrics.runs).filter(([, runs]) => runs).map(([status, runs]) => `${runs} ${status.toLowerCase()}`).join(", ") || "none";
  for (const { name, behind } of metrics.consumers) {
    const lag = document.querySelector(`[data-consumer="${CSS.escape(name)}"]`);
    if (lag) lag.textContent = behind;
  }
}

streams.addEventListener("open", () => say("connected"));
streams.addEventListener("close", ({ detail }) => say(detail.code === 4401 ? "the session is over: log in again" : "not connected; trying again"));
form.addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  follow(new FormData(form).get("channel").trim());
});
streams.follow("metrics", count);
const first = new FormData(form).get("channel").trim();
follow(first, /^(chat|logs|tokens|metrics)/.test(first) ? null : form.dataset.after); // what happened just now, too
