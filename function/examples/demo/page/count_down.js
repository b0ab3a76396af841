/** Calls `tick` each second with the whole seconds left until `end` (Unix seconds), down to 0. Returns a stop function. */
export function countDown(end, tick) {
  let timer;
  const update = () => {
    const left = Math.max(0, end - Date.now() / 1000);
    const seconds = Math.ceil(left);
    // The next tick is on the second, so that 0 is shown at `end` and not up to a second later.
    if (seconds) timer = setTimeout(update, (left - seconds + 1) * 1000);
    tick(seconds);
  };
  update();
  return () => clearTimeout(timer);
}
