/** A notice: what happened, why, what to do, and the fine print. An element with role=alert says it aloud. */

/** Fills `notice`, or empties it; a calm one is no failure. */
export function tell(notice, words, calm = false) {
  notice.classList.toggle('calm', calm);
  const lines = words
    ? [
        ['strong', words.title],
        ['p', words.why],
        ['p', words.now],
        ['small', words.fine],
      ]
    : [];
  const told = lines.filter(([, textContent]) => textContent);
  notice.replaceChildren(
    ...told.map(([name, textContent]) => Object.assign(document.createElement(name), { textContent })),
  );
}
