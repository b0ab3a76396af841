/** Level meters: how loud a stream is. */

/** Milliseconds between two updates of the picture, and of the number that screen readers announce. */
const [DRAW_INTERVAL, ANNOUNCE_INTERVAL] = [50, 500];

/** The level of silence, in decibels relative to full scale. */
const SILENCE = -60;

export class LevelMeters {
  #context;
  #meters = [];

  /** Shows the loudness of `stream` on `meter`, an element with role=meter, until `close`. */
  follow(stream, meter) {
    this.#context ??= new AudioContext();
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let loudest = 0;
    const drawTimer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const level = loudness(samples);
      loudest = Math.max(loudest, level);
      meter.style.setProperty('--level', level.toFixed(3));
    }, DRAW_INTERVAL);
    const announceTimer = setInterval(() => {
      meter.setAttribute('aria-valuenow', Math.round(loudest * 100));
      loudest = 0;
    }, ANNOUNCE_INTERVAL);
    this.#meters.push({ meter, drawTimer, announceTimer });
  }

  close() {
    for (const { meter, drawTimer, announceTimer } of this.#meters.splice(0)) {
      clearInterval(drawTimer);
      clearInterval(announceTimer);
      meter.style.setProperty('--level', '0');
      meter.setAttribute('aria-valuenow', '0');
    }
    this.#context?.close();
    this.#context = undefined;
  }
}

/** From 0 for silence to 1 for full scale, linear in decibels, as hearing is. */
function loudness(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  const decibels = 10 * Math.log10(power || Number.MIN_VALUE);
  return Math.min(1, Math.max(0, 1 - decibels / SILENCE));
}
