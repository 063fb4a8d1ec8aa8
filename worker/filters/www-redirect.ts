/** From the counterpart of a host to the host: a server of its own in nginx, so it answers every request. */

import { redirectPage } from "../error-page.ts";
import type { HostFilterFor } from "./filter.ts";
import { requestUri } from "./location.ts";

export const wwwRedirect: HostFilterFor<"wwwRedirect"> = ({ status, toHost }) => ({
  onRequest(visit) {
    const uri = requestUri(visit);
    const rest = uri.endsWith("/") ? uri.slice(0, -1) : uri;
    return redirectPage(status, `${visit.target.scheme}://${toHost}:${visit.port}${rest}`);
  },
});
