// Requests to the workers over one connection and one queue for answers; any number may be in flight.
import { randomUUID } from "node:crypto";
import amqp from "amqplib";
import type { ChannelModel, ConfirmChannel, ConsumeMessage } from "amqplib";
import type { CompletionJob } from "./wire/completion.job.v1.js";
import type { CompletionResult } from "./wire/completion.result.v1.js";
import type { Feedback } from "./wire/feedback.v1.js";
import type { Gradients } from "./wire/gradients.v1.js";

export interface Settings {
  url: string;
  namespace: string;
  // how long an answer may take
  seconds: number;
}

interface Waiting {
  resolve: (answer: any) => void;
  reject: (reason: Error) => void;
}

export class Backtalk {
  readonly #waiting = new Map<string, Waiting>();

  private constructor(
    readonly settings: Settings,
    readonly connection: ChannelModel,
    readonly channel: ConfirmChannel,
    readonly replies: string,
  ) {}

  static async open(settings: Settings): Promise<Backtalk> {
    const connection = await amqp.connect(settings.url, { timeout: settings.seconds * 1000 }).catch((error) => {
      throw new Error(`no connection to the broker of BACKTALK_AMQP_URL: ${error.message || error.code}`);
    });
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    const opened = new Backtalk(settings, connection, channel, queue);
    const lost = (reason?: Error) => opened.#failAll(reason ?? new Error("the connection to the broker is closed"));
    connection.on("error", lost);
    connection.on("close", lost);
    channel.on("error", lost);
    channel.on("return", (message) =>
      opened.#waiting
        .get(message.properties.messageId)
        ?.reject(new Error(`no queue ${message.fields.routingKey}: the workers make their queues when they start`)),
    );
    await channel.consume(queue, (message) => opened.#take(message), { noAck: true });
    return opened;
  }

  // Sends a job and returns what the forward worker answers; throws unless all of it was done.
  async complete(job: CompletionJob): Promise<CompletionResult> {
    const result = await this.#ask<CompletionResult>("forward", job);
    if (result.status !== "completed") {
      throw new Error(`forward worker: ${result.status}: ${result.error?.message}`);
    }
    return result;
  }

  // Sends feedback and returns the gradients; throws unless all of them were found.
  async differentiate(feedback: Feedback): Promise<Gradients> {
    const gradients = await this.#ask<Gradients>("backward", feedback);
    if (gradients.status !== "completed") {
      const error = gradients.error ?? gradients.failures?.[0]?.error;
      throw new Error(`backward worker: ${gradients.status}: ${error?.message}`);
    }
    return gradients;
  }

  async close(): Promise<void> {
    await this.connection.close();
  }

  async #ask<Answer>(role: "forward" | "backward", request: object): Promise<Answer> {
    const id = randomUUID();
    const { namespace, seconds } = this.settings;
    let timer: NodeJS.Timeout | undefined;
    const answer = new Promise<Answer>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      timer = setTimeout(() => reject(new Error(`no answer of a ${role} worker within ${seconds} s`)), seconds * 1000);
      this.channel.publish(
        "",
        `${namespace}.${role}`,
        Buffer.from(JSON.stringify(request)),
        { messageId: id, replyTo: this.replies, persistent: true, mandatory: true, contentType: "application/json" },
        (refused) => refused && reject(new Error("the broker did not take the request; its queue may be full")),
      );
    });
    return answer.finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(id);
    });
  }

  // An answer comes at least once: nobody waits for a repeat, which is dropped.
  #take(message: ConsumeMessage | null): void {
    if (message === null) return this.#failAll(new Error("the queue for answers is gone"));
    this.#waiting.get(message.properties.correlationId)?.resolve(JSON.parse(message.content.toString("utf8")));
  }

  #failAll(reason: Error): void {
    for (const one of this.#waiting.values()) one.reject(reason);
  }
}
