/** A folder as `npm install` would leave it, but for the edge Worker: its `bin/fairlead.mjs` runs without this checkout's sources. */
export function packCommand(folder: string): Promise<void>;
