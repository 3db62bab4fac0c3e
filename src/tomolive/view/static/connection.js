// One WebSocket that comes back by itself. Pictures are acknowledged when they are on the screen; while nobody looks at
// this tab none is acknowledged, so none is made for it.

import { decodePicture } from "./protocol.js";

const SILENCE_MS = 8000;
const BACKOFF_MS = [250, 500, 1000, 2000, 4000];

export class Connection {
  /** handlers: hello(message), state(status and more), trends(list), pictures([Picture]), refused(reason), link(up, words) */
  constructor(handlers, { name = "", token = "" } = {}) {
    this.handlers = handlers;
    this.name = name;
    this.token = token;
    this.failures = 0;
    this.pending = null;
    document.addEventListener("visibilitychange", () => this.deliver());
    setInterval(() => this.checkSilence(), 1000);
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heard = performance.now();
    this.pending = null;
    socket.onopen = () => {
      this.failures = 0;
      this.handlers.link(true, "connected");
      this.introduce(this.name);
    };
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => {
      if (this.socket === socket) this.reopen(event);
    };
  }

  introduce(name) {
    this.name = name;
    this.send({ type: "hello", name, token: this.token });
  }

  reopen(event) {
    const words = event?.code === 1008 && event.reason ? `refused: ${event.reason}` : "reconnecting";
    this.handlers.link(false, words);
    const delay = BACKOFF_MS[Math.min(this.failures++, BACKOFF_MS.length - 1)];
    setTimeout(() => this.open(), delay * (0.75 + Math.random() / 2));
  }

  checkSilence() {
    if (this.socket.readyState === WebSocket.OPEN && performance.now() - this.heard > SILENCE_MS) {
      const silent = this.socket;
      this.socket = null;
      silent.close();
      this.socket = silent;
      this.reopen();
    }
  }

  receive(data) {
    this.heard = performance.now();
    if (typeof data !== "string") {
      const pending = this.pending;
      if (!pending) return;
      const key = pending.message.sending[pending.pictures.length];
      pending.pictures.push(decodePicture(data, key, pending.message.pictures[key]));
      this.deliver();
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "state") {
      const { status, ...more } = message;
      this.handlers.state({ ...status, ...more });
      if (message.sending.length) this.pending = { message, pictures: [], scheduled: false };
    } else if (message.type === "trends") this.handlers.trends(message.trends);
    else if (message.type === "hello") this.handlers.hello(message);
    else if (message.type === "refused") this.handlers.refused(message.reason);
  }

  /** Draw what has come completely, in the next frame, if this tab is looked at. */
  deliver() {
    const pending = this.pending;
    if (!pending || pending.scheduled || document.hidden) return;
    if (pending.pictures.length < pending.message.sending.length) return;
    pending.scheduled = true;
    requestAnimationFrame(() => {
      if (this.pending !== pending) return;
      this.pending = null;
      this.handlers.pictures(pending.pictures);
      this.send({ type: "ack", version: pending.message.version });
    });
  }

  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }
}
