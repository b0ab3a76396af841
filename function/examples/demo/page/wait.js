/** The wait that a refusal asks for. */

import { countDown } from './count_down.js';
import { formatTime } from './messages.js';

/** Counts `seconds` down on `button`, which does nothing meanwhile, then calls `done`. Returns a stop function. */
export function holdOff(button, seconds, done) {
  button.ariaDisabled = 'true';
  return countDown(Date.now() / 1000 + seconds, left => {
    button.textContent = `Try again in ${formatTime(left)}`;
    if (!left) done();
  });
}

/** Counts `seconds` down in `place`. The wait may be over sooner, so no button is held. Returns a stop function. */
export function showLongestWait(place, seconds) {
  const stop = countDown(Date.now() / 1000 + seconds, left => {
    place.textContent = left ? `At the latest, a call is possible again in ${formatTime(left)}.` : '';
  });
  return () => {
    stop();
    place.textContent = '';
  };
}
