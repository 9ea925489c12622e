// Uses the types that openapi-typescript has generated, and prints what it has received.
import createClient from "openapi-fetch";
import type { paths } from "./easel.js";

const [baseUrl, body] = process.argv.slice(2);
const { key, prompt } = JSON.parse(body!) as { key: string; prompt: string };
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });
const picture = await client.GET("/inference/{text}", {
  params: { path: { text: prompt }, query: { seed: 7, width: 64 } },
  parseAs: "arrayBuffer",
});
const images = await client.POST("/v1/images/generations", { body: { prompt, seed: 7 } });
const webUi = await client.POST("/sdapi/v1/txt2img", { body: { prompt, steps: 3 } });
const job = await client.POST("/jobs", { body: { prompt, seed: 7, model: "sdxl" } });
const refused = await client.GET("/inference/{text}", {
  params: { path: { text: prompt }, query: { seed: 7 } },
  headers: { Authorization: "Bearer wrong" },
});
const pictures = [
  Buffer.from(picture.data as ArrayBuffer).toString("base64"),
  images.data!.data[0]!.b64_json,
  webUi.data!.images[0],
];
const error = refused.error as { error: { code: string } };
console.log(JSON.stringify({ pictures, job: job.data!.state, refused: error.error.code }));
