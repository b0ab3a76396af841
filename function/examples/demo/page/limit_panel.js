/** The time that a call through the server has left. */

import { countDown } from './count_down.js';
import { elements } from './elements.js';
import { formatTime, limitMessage } from './messages.js';

/** The warning before the end comes this many seconds earlier, or a fifth of the call if that is less. */
const WARNING = 30;

export class LimitPanel {
  #stop = () => {};

  /** Shows how long the next call may last, or nothing for a call without a limit of the server. */
  showNext(maxSeconds) {
    this.#stop();
    elements.limit.hidden = !maxSeconds;
    if (maxSeconds) this.#show(maxSeconds, 1, 'next');
  }

  /** Counts down to `end`, in Unix seconds. */
  start(end) {
    this.#stop();
    elements.limit.hidden = false;
    const total = end - Date.now() / 1000;
    const clock = new Date(end * 1000).toLocaleTimeString();
    this.#stop = countDown(end, left => {
      const warning = Math.min(WARNING, Math.ceil(total / 5));
      const state = left > warning ? 'running' : left ? 'warning' : 'over';
      this.#show(left, left / total, state, clock);
    });
  }

  #show(seconds, part, state, at) {
    elements['call-left'].textContent = formatTime(seconds);
    elements['call-ring'].setAttribute('stroke-dasharray', `${Math.min(100, 100 * part).toFixed(1)} 100`);
    if (elements.limit.dataset.state === state && state !== 'next') return;
    elements.limit.dataset.state = state;
    elements['limit-text'].textContent = limitMessage(state, at, seconds);
  }
}
