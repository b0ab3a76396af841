/** Connects the panels: step 1 chooses the session and may get a token, step 2 calls. */

import { CallPanel } from './call_panel.js';
import { SessionPanel } from './session_panel.js';
import { TokenPanel } from './token_panel.js';

const sessionPanel = new SessionPanel({
  changed: () => {
    tokenPanel.showChoices();
    callPanel.showChoices();
  },
});
const tokenPanel = new TokenPanel(sessionPanel, {
  requestStarted: () => callPanel.tokenRequested(),
  requestFinished: () => callPanel.showToken(),
  minted: () => callPanel.tokenMinted(),
  expired: () => callPanel.tokenExpired(),
});
const callPanel = new CallPanel(sessionPanel, tokenPanel);

await tokenPanel.open();
callPanel.open();
