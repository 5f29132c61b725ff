// A stock gRPC client: a generated stub, one address, and nothing of the mesh.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/textclient/textv1"
)

// Unexecuted refusals alone are tried again here: see docs/other-languages.md.
const serviceConfig = `{
  "methodConfig": [{
    "name": [{"service": "atomesh.text.v1.TextProcessorService"}],
    "retryPolicy": {
      "maxAttempts": 4,
      "initialBackoff": "0.05s",
      "maxBackoff": "1s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["RESOURCE_EXHAUSTED"]
    }
  }]
}`

func main() {
	connection, err := grpc.NewClient(os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	agent := textv1.NewTextProcessorServiceClient(connection)

	for _, input := range []*textv1.TextInput{
		{Content: "It just works. I love it!", Operation: "sentiment"},
		{Content: "", Operation: "applaud"}, // wrong twice
	} {
		if err := ask(agent, input); err != nil {
			explain(err)
		}
	}
}

// ask makes one call: its deadline and its request id travel through every agent behind this one.
func ask(agent textv1.TextProcessorServiceClient, input *textv1.TextInput) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", "go-1", "x-user-id", "gopher")
	var trailer metadata.MD
	output, err := agent.Execute(ctx, input, grpc.Trailer(&trailer))
	if err != nil {
		return err
	}
	fmt.Printf("%s (compound %.2f), request %v\n",
		output.GetResult(), output.GetSentiment().GetCompound(), trailer.Get("x-request-id"))
	return nil
}

// explain prints what an error of the mesh says beside its code and message.
func explain(err error) {
	told := status.Convert(err)
	fmt.Println(told.Code(), "-", told.Message())
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Printf("  ErrorInfo %s/%s, executed=%s, agent=%s, request %s\n", detail.GetDomain(), detail.GetReason(),
				detail.GetMetadata()["executed"], detail.GetMetadata()["agent"], detail.GetMetadata()["request_id"])
		case *errdetails.BadRequest:
			for _, field := range detail.GetFieldViolations() {
				fmt.Printf("  BadRequest %s: %s (%s)\n", field.GetField(), field.GetDescription(), field.GetReason())
			}
		case *errdetails.RetryInfo:
			fmt.Println("  RetryInfo", detail.GetRetryDelay().AsDuration())
		}
	}
}
