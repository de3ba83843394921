// Raw CDP: what no library sends, and the order and shape of what comes back.
// Every scenario answers what was seen with ids named in order of appearance, so that the
// same scenario on Chrome's own port and on a connect URL can be compared word by word.
import endpoints from './raw/endpoints.mjs';
import leaving from './raw/leaving.mjs';
import messages from './raw/messages.mjs';
import sessions from './raw/sessions.mjs';
import { run } from './scenarios.mjs';

// the end of the browser comes last
await run({ ...messages, ...sessions, ...leaving, ...endpoints });
