/** How loud a stream is, on a meter: twenty times a second for the eye, twice for who is told the number. */

const [EYE, TOLD] = [50, 500];

/** What counts as silence, in decibels below the loudest that there is. */
const SILENCE = -60;

export class Levels {
  #context;
  #timers = [];

  /** Shows the loudness of `stream` on `meter`, an element with role=meter, until `close`. */
  follow(stream, meter) {
    this.#context ??= new AudioContext();
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let loudest = 0;
    const look = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const level = loudness(samples);
      loudest = Math.max(loudest, level);
      meter.style.setProperty('--level', level.toFixed(3));
    }, EYE);
    const tell = setInterval(() => {
      meter.setAttribute('aria-valuenow', Math.round(loudest * 100));
      loudest = 0;
    }, TOLD);
    this.#timers.push([look, tell, meter]);
  }

  close() {
    for (const [look, tell, meter] of this.#timers.splice(0)) {
      clearInterval(look);
      clearInterval(tell);
      meter.style.setProperty('--level', '0');
      meter.setAttribute('aria-valuenow', '0');
    }
    this.#context?.close();
    this.#context = undefined;
  }
}

/** From 0 for silence to 1, in equal steps of decibels as one hears it. */
function loudness(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  const decibels = 10 * Math.log10(power || Number.MIN_VALUE);
  return Math.min(1, Math.max(0, 1 - decibels / SILENCE));
}
