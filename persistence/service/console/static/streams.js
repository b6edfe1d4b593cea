// What happens in a tenant as it happens: the client of /v1/streams for browsers. One file, nothing to build.
//
//   import { Streams } from "/v1/streams/client.js";
//   const streams = new Streams("/v1/streams", { token: "pp_…" });
//   const stop = streams.follow("type:RUN_FAILED", ({ event, position }) => …, { after: localStorage.position });
//   streams.publish("chat:desk", { text: "hello" });
//
// It comes back by itself, with full jitter, and goes on behind the last position it was told: nothing is missed unawares, nothing comes twice.

const PROTOCOL = "persistence.v1";
const FIRST_WAIT = 250;
const LONGEST_WAIT = 15_000;
const SILENCE = 40_000; // the service says something every fifteen seconds

export class Streams extends EventTarget {
  #url; #token; #socket = null; #following = new Map(); #asked = new Map(); #number = 0; #tries = 0; #timer = 0; #silence = 0; #closed = false; #open = false;

  // token: none on pages of the console, whose cookie lets them in. Events: "open", "close" (detail: {code, reason}), "notice" (detail: what was said).
  constructor(url, { token = null } = {}) {
    super();
    this.#url = new URL(url, location.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#token = token;
    this.#connect();
  }

  get isOpen() { return this.#open; }

  // Calls take({channel, position, event | message | metrics}) for each that comes. after: a position that was told before; consumer: a name under which
  // the service keeps how far you are. notice: called with lagging, caught_up, epoch, missed, taken_over and errors. Returns what stops it.
  follow(channel, take, { after = null, consumer = null, notice = () => {} } = {}) {
    if (this.#following.has(channel)) throw new Error(`${channel} is followed already`);
    this.#following.set(channel, { take, notice, consumer, position: after });
    if (this.#open) this.#subscribe(channel);
    return () => {
      if (this.#following.delete(channel) && this.#open) this.#send({ do: "unsubscribe", channel });
    };
  }

  publish(channel, content) { return this.#ask({ do: "publish", channel, content }); }
  ack(consumer, position) { return this.#ask({ do: "ack", consumer, position }); }

  // Goes on with another token, before this one ends.
  renew(token) {
    this.#token = token;
    return this.#ask({ do: "renew", token });
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#socket?.close(1000);
  }

  #connect() {
    const protocols = this.#token ? [PROTOCOL, `bearer.${this.#token}`] : [PROTOCOL];
    const socket = this.#socket = new WebSocket(this.#url, protocols);
    socket.onmessage = ({ data }) => { if (socket === this.#socket) this.#hear(JSON.parse(data)); };
    socket.onclose = ({ code, reason }) => { if (socket === this.#socket) this.#lost(code, reason); };
    this.#watch();
  }

  #lost(code, reason) {
    this.#open = false;
    clearTimeout(this.#silence);
    for (const { reject } of this.#asked.values()) reject(new Error(reason || "the connection was lost"));
    this.#asked.clear();
    this.dispatchEvent(new CustomEvent("close", { detail: { code, reason } }));
    if (this.#closed || code === 4401) return; // a token that is over does not come back
    const wait = Math.random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#tries++);
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  // A connection that says nothing for long is gone, whatever the machine believes.
  #watch() {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#silence = setTimeout(() => {
      this.#socket = null;
      socket.close();
      this.#lost(1006, "nothing was heard for too long");
    }, SILENCE);
  }

  #hear(said) {
    this.#watch();
    const { is, channel, id } = said;
    if (is === "welcome") {
      this.#open = true;
      this.#tries = 0;
      this.dispatchEvent(new CustomEvent("open", { detail: said }));
      for (const name of this.#following.keys()) this.#subscribe(name);
      return;
    }
    const asked = this.#asked.get(id);
    if (asked) {
      this.#asked.delete(id);
      if (is === "error") asked.reject(Object.assign(new Error(said.detail), said));
      else asked.resolve(said);
      return;
    }
    const one = this.#following.get(channel);
    if (one && is === "subscribed") one.channel = channel;
    if (one && said.position) one.position = said.position;
    if (one && (is === "event" || is === "message" || is === "metrics")) one.take(said);
    else if (one && is !== "subscribed") one.notice(said);
    this.dispatchEvent(new CustomEvent("notice", { detail: said }));
  }

  #subscribe(channel) {
    const { position, consumer } = this.#following.get(channel);
    this.#send({ do: "subscribe", channel, ...(position && !consumer ? { after: position } : {}), ...(consumer ? { consumer } : {}) });
  }

  #ask(order) {
    if (!this.#open) return Promise.reject(new Error("there is no connection"));
    const id = ++this.#number;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject });
      this.#send({ ...order, id });
    });
  }

  #send(order) { this.#socket.send(JSON.stringify(order)); }
}
