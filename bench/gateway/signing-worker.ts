/** A Worker that signs tokens, as often as the URL says: `/sign?count=N&round=R` for targets that all differ, `/reuse?count=N`. */

import { createTokenSigner, parseTokenKeys } from "../../edge-config/gateway-token.ts";

const KEYS = parseTokenKeys(`bench:${"Bw".repeat(21)}B=`);
/** Of the kind `reuse`: one for all of them, as an isolate has it. */
const signer = createTokenSigner(KEYS);

// biome-ignore lint/style/noDefaultExport: that is how workerd asks for it.
export default {
  async fetch(request: { readonly url: string }): Promise<Response> {
    const url = new URL(request.url);
    const count = Number(url.searchParams.get("count"));
    const round = Number(url.searchParams.get("round"));
    const now = Date.now();
    const target = { port: 8080, scheme: "http", host: "shop.example.com" } as const;
    if (url.pathname === "/reuse") {
      const address = "10.0.0.1";
      await signer.sign({ ...target, address }, now);
      for (let n = 0; n < count; n++) void signer.sign({ ...target, address }, now);
    } else {
      const fresh = createTokenSigner(KEYS);
      for (let n = 0; n < count; n++)
        await fresh.sign({ ...target, address: `10.${round}.${n >> 8}.${n & 255}` }, now);
    }
    return new Response("done");
  },
};
