/**
 * Shows `message` in `notice`, or clears it without one: the title, the cause, the action to take, and the details.
 * An element with role=alert is read aloud. A `calm` notice is not a failure.
 */
export function showNotice(notice, message, calm = false) {
  notice.classList.toggle('calm', calm);
  const lines = message
    ? [
        ['strong', message.title],
        ['p', message.cause],
        ['p', message.action],
        ['small', message.details],
      ]
    : [];
  const filled = lines.filter(([, textContent]) => textContent);
  notice.replaceChildren(
    ...filled.map(([name, textContent]) => Object.assign(document.createElement(name), { textContent })),
  );
}
