// A stock gRPC client: `node client.js ADDRESS DESCRIPTORS`, with nothing of the mesh in it.
"use strict";

const fs = require("fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const protobuf = require("protobufjs");
const descriptor = require("protobufjs/ext/descriptor");

const [address, file] = process.argv.slice(2);
const bytes = fs.readFileSync(file);
const shape = { keepCase: true, enums: String, defaults: true, oneofs: true };
const { atomesh } = grpc.loadPackageDefinition(loader.loadFileDescriptorSetFromBuffer(bytes, shape));
// What grpc-js does not do by itself: the details of an error are protobuf messages in a trailer.
const types = protobuf.Root.fromDescriptor(descriptor.FileDescriptorSet.decode(bytes));

// Refusals that were certainly not executed, and nothing else: see docs/other-languages.md.
const serviceConfig = {
  methodConfig: [{
    name: [{ service: "atomesh.text.v1.TextProcessorService" }],
    retryPolicy: {
      maxAttempts: 4,
      initialBackoff: "0.05s",
      maxBackoff: "1s",
      backoffMultiplier: 2,
      retryableStatusCodes: ["RESOURCE_EXHAUSTED"],
    },
  }],
};

const agent = new atomesh.text.v1.TextProcessorService(address, grpc.credentials.createInsecure(), {
  "grpc.service_config": JSON.stringify(serviceConfig),
});

function ask(input) {
  const headers = new grpc.Metadata();
  headers.set("x-request-id", "node-1");
  headers.set("x-user-id-bin", Buffer.from("Zoë")); // no printable ASCII: the -bin twin
  return new Promise((resolve, reject) => {
    agent.Execute(input, headers, { deadline: Date.now() + 5000 }, (error, output) =>
      error ? reject(error) : resolve(output));
  });
}

function details(error) {
  const [status] = error.metadata.get("grpc-status-details-bin");
  if (!status) return [];
  return types.lookupType("google.rpc.Status").decode(status).details.map((any) => {
    const name = any.type_url.split("/").pop();
    return [name, types.lookupType(name).toObject(types.lookupType(name).decode(any.value))];
  });
}

function told({ reason, metadata, field_violations: violations }) {
  if (violations) return violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
  const pairs = Object.fromEntries((metadata ?? []).map(({ key, value }) => [key, value]));
  return `${reason}, executed=${pairs.executed}, request ${pairs.request_id}`;
}

async function main() {
  const output = await ask({ content: "It just works. I love it!", operation: "sentiment" });
  console.log(`${output.result} (compound ${output.sentiment.compound.toFixed(2)})`);
  try {
    await ask({ content: "", operation: "applaud" }); // wrong twice
  } catch (error) {
    console.log(`${grpc.status[error.code]} - ${error.details}`);
    for (const [name, value] of details(error)) console.log(" ", name, told(value));
  }
  agent.close();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
