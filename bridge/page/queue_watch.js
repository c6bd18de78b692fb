// What the server's queue looks like while an answer is waited for.

/**
 * @typedef {import("./server.js").Server} Server
 * @typedef {import("./compare_view.js").CompareView} CompareView
 */

const LOOK_EVERY_MS = 700;

/**
 * Show on a view that the server works, for how long, and how many wait, until the returned function is called.
 * @param {Server} server
 * @param {CompareView} view
 * @param {AbortSignal} signal
 */
export function watchQueue(server, view, signal) {
  const since = performance.now();
  let waiting = 0;
  const show = () => view.work(wordsFor((performance.now() - since) / 1000, waiting));
  show();
  const clock = setInterval(show, 100);
  const looks = setInterval(async () => {
    const queue = await server.queue(signal).catch(() => null); // the answer itself tells what is wrong
    waiting = queue?.waiting || 0;
  }, LOOK_EVERY_MS);
  return () => {
    clearInterval(clock);
    clearInterval(looks);
    view.work("");
  };
}

/** @param {number} seconds @param {number} waiting */
function wordsFor(seconds, waiting) {
  const queue = waiting ? `, ${waiting} ${waiting === 1 ? "request waits" : "requests wait"} in the queue` : "";
  return `Working, ${seconds.toFixed(1)} s${queue}`;
}
