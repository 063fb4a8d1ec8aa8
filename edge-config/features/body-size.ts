/** How large a request's body may be (ingress-nginx `proxy-body-size`). Absent: `DEFAULT_MAX_BODY_BYTES`. */
export interface BodySizePolicy {
  /** 0: as large as it likes. */
  readonly maxBytes: number;
}

/** ingress-nginx's `proxy-body-size: 1m`. */
export const DEFAULT_MAX_BODY_BYTES = 1_048_576;
