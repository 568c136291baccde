// Answers GET /health on the port that CLAW_PORT names, until it is told to stop.
package main

import (
	"fmt"
	"net/http"
	"os"

	"github.com/go-chi/chi/v5"
)

// version is set when linking.
var version = "unset"

func main() {
	port := os.Getenv("CLAW_PORT")
	if port == "" {
		port = "8080"
	}
	router := chi.NewRouter()
	router.Get("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "claw-go %s\n", version) })
	fmt.Println("listening on", port)
	if err := http.ListenAndServe(":"+port, router); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
