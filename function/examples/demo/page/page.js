/** Connects the panels: step 1 gets a token, step 2 calls with it. */

import { CallPanel } from './call_panel.js';
import { TokenPanel } from './token_panel.js';

const tokenPanel = new TokenPanel({
  requestStarted: () => callPanel.tokenRequested(),
  requestFinished: () => callPanel.showToken(),
  minted: () => callPanel.tokenMinted(),
  expired: () => callPanel.tokenExpired(),
});
const callPanel = new CallPanel(tokenPanel);

await tokenPanel.open();
callPanel.open();
