// One WebSocket that comes back by itself. Pictures are acknowledged when they are on the screen; while nobody looks at
// this tab none is acknowledged, so none is made for it.

import { decodePicture } from "./protocol.js";

const SILENCE_MS = 8000;
const PATIENCE_MS = 400;
const BACKOFF_MS = [250, 500, 1000, 2000, 4000];

export class Connection {
  /** handlers: hello(message), state(status and more), trends(list), pictures([Picture]), refused(reason), link(up, words) */
  constructor(handlers, { name = "", token = "" } = {}) {
    this.handlers = handlers;
    this.name = name;
    this.token = token;
    this.failures = 0;
    /** What has come and is not shown: a state, trends, and pictures with the state that announces them. */
    this.state = this.trends = this.pending = null;
    this.patience = this.frame = null;
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
    this.state = this.trends = this.pending = null;
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
      this.state = message;
      if (message.sending.length) this.pending = { message, pictures: [] };
      this.deliver();
    } else if (message.type === "trends") this.trends = message.trends;
    else if (message.type === "hello") this.handlers.hello(message);
    else if (message.type === "refused") this.handlers.refused(message.reason);
  }

  /**
   * Show what has come in the next frame, all in one: a frame costs more than what changes in it. A state waits for its
   * pictures, but not for a slow line; while nobody looks at this tab, and no frames are made, it is told alone.
   */
  deliver() {
    const { pending } = this;
    if (document.hidden) return this.tell();
    if (pending && pending.pictures.length < pending.message.sending.length) {
      this.patience ??= setTimeout(() => this.tell(), PATIENCE_MS);
      return;
    }
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.tell();
      this.draw();
    });
  }

  tell() {
    clearTimeout(this.patience);
    const { state, trends } = this;
    this.patience = this.state = this.trends = null;
    if (state) {
      const { status, ...more } = state;
      this.handlers.state({ ...status, ...more });
    }
    if (trends) this.handlers.trends(trends);
  }

  /** Draw the pictures, if all have come, and ask for the next. */
  draw() {
    const { pending } = this;
    if (!pending || pending.pictures.length < pending.message.sending.length) return;
    this.pending = null;
    this.handlers.pictures(pending.pictures);
    this.send({ type: "ack", version: pending.message.version });
  }

  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }
}
