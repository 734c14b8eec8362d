/** The kubelet's end of containerd, as far as tests need it: pull an image, run a pod with one container, look into it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

export interface Pods {
  /** Asks until containerd is ready for pods. */
  pull(image: string): Promise<string>;
  /** Runs a container of `image` in a pod of its own on the host's network. */
  run(name: string, image: string, command: string[]): Promise<Pod>;
  removeImage(image: string): Promise<void>;
  /** All pods and all images, also those of runs and pulls that failed half-way. */
  removeAll(): Promise<void>;
  close(): void;
}

export interface Pod {
  readonly container: string;
  exec(...command: string[]): Promise<{ out: string; err: string; status: number }>;
  /** Stops and removes the container and its pod. */
  remove(): Promise<void>;
}

type Call = (method: string, request: object) => Promise<Record<string, unknown>>;
const HOST_NETWORK = 2;
const PATIENCE = 120_000;
const READY = 20_000;

export function podClient(socket: string): Pods {
  const definition = loadSync(fileURLToPath(new URL('pods.proto', import.meta.url)), {
    defaults: true,
    keepCase: true,
  });
  const { runtime } = loadPackageDefinition(definition) as never as {
    runtime: { v1: Record<string, new (address: string, creds: unknown, options: object) => Record<string, never>> };
  };
  const open = (service: string) =>
    new runtime.v1[service](`unix://${socket}`, credentials.createInsecure(), {
      'grpc.default_authority': 'localhost',
    });
  const services = { runtime: open('RuntimeService'), image: open('ImageService') };
  const caller =
    (service: Record<string, never>): Call =>
    (method, request) =>
      new Promise((resolve, reject) => {
        const call = service[method] as (...args: unknown[]) => void;
        call.call(service, request, { deadline: Date.now() + PATIENCE }, (error: Error | null, answer: never) =>
          error ? reject(error) : resolve(answer),
        );
      });
  const runtimeCall = caller(services.runtime);
  const imageCall = caller(services.image);

  return {
    async pull(image) {
      const pulled = () => imageCall('PullImage', { image: { image } });
      for (const end = Date.now() + READY; ; await sleep(100)) {
        try {
          return (await pulled()).image_ref as string;
        } catch (error) {
          // containerd gives a snapshotter about a second to greet, which is little on a busy machine.
          if (!/not initialized|server handshake/.test(String(error)) || Date.now() > end) throw error;
        }
      }
    },
    async run(name, image, command) {
      const sandbox_config = {
        metadata: { name, uid: name, namespace: 'test', attempt: 0 },
        linux: { security_context: { namespace_options: { network: HOST_NETWORK } } },
      };
      const { pod_sandbox_id } = await runtimeCall('RunPodSandbox', { config: sandbox_config });
      const { container_id } = await runtimeCall('CreateContainer', {
        pod_sandbox_id,
        sandbox_config,
        config: { metadata: { name, attempt: 0 }, image: { image }, command, log_path: '' },
      });
      await runtimeCall('StartContainer', { container_id });
      return {
        container: container_id as string,
        async exec(...cmd) {
          const { stdout, stderr, exit_code } = await runtimeCall('ExecSync', { container_id, cmd, timeout: 60 });
          return { out: String(stdout), err: String(stderr), status: exit_code as number };
        },
        async remove() {
          await runtimeCall('StopContainer', { container_id, timeout: 0 });
          await runtimeCall('RemoveContainer', { container_id });
          await runtimeCall('StopPodSandbox', { pod_sandbox_id });
          await runtimeCall('RemovePodSandbox', { pod_sandbox_id });
        },
      };
    },
    async removeImage(image) {
      await imageCall('RemoveImage', { image: { image } });
    },
    async removeAll() {
      const { items } = (await runtimeCall('ListPodSandbox', {})) as { items: { id: string }[] };
      for (const { id } of items)
        for (const method of ['StopPodSandbox', 'RemovePodSandbox']) await runtimeCall(method, { pod_sandbox_id: id });
      const { images } = (await imageCall('ListImages', {})) as { images: { id: string }[] };
      for (const { id } of images) await imageCall('RemoveImage', { image: { image: id } });
    },
    close() {
      for (const service of Object.values(services)) (service.close as () => void)();
    },
  };
}
