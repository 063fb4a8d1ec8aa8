export function kubernetesApiServerPath(): string;
export function buildKubernetesApiServer(): Promise<boolean>;
