// A mint in Go that reads the key once, at the cold start. net/http keeps the connection to OpenAI.
//
// Only the standard library: AWS's SDK would add to the cold start.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

var request = []byte(`{"expires_after":{"anchor":"created_at","seconds":3600},` +
	`"session":{"type":"realtime","model":"gpt-realtime-2.1","audio":{"output":{"voice":"alloy"}}}}`)

var openai = &http.Client{Timeout: 10 * time.Second}

// The Runtime API has a client without a timeout: the next event may come after hours.
var runtime = &http.Client{}

type token struct {
	Value     string `json:"value"`
	ExpiresAt int64  `json:"expires_at"`
	Session   struct {
		ID    string `json:"id"`
		Model string `json:"model"`
		Audio struct {
			Output struct {
				Voice string `json:"voice"`
			} `json:"output"`
		} `json:"audio"`
	} `json:"session"`
}

type success struct {
	Success        bool   `json:"success"`
	EphemeralToken string `json:"ephemeralToken"`
	SessionID      string `json:"sessionId"`
	ExpiresAtCamel int64  `json:"expiresAt"`
	Model          string `json:"model"`
	Voice          string `json:"voice"`
	Message        string `json:"message"`
	Value          string `json:"value"`
	ExpiresAt      int64  `json:"expires_at"`
}

type refusal struct {
	Success bool   `json:"success"`
	Error   string `json:"error"`
}

type answer struct {
	StatusCode      int               `json:"statusCode"`
	Headers         map[string]string `json:"headers"`
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
}

type record struct {
	RequestID string  `json:"requestId"`
	Status    int     `json:"status"`
	Error     *string `json:"error"`
}

func main() {
	key, err := apiKey()
	if err != nil {
		report("init/error", err)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		if err := serve(key); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// serve answers one event of the Runtime API.
func serve(key string) error {
	id, body, err := call("GET", "invocation/next", nil)
	if err != nil {
		return err
	}
	var event map[string]any
	if err := json.Unmarshal(body, &event); err != nil {
		return report("invocation/"+id+"/error", err)
	}
	answered, err := json.Marshal(handle(key, id))
	if err != nil {
		return report("invocation/"+id+"/error", err)
	}
	_, _, err = call("POST", "invocation/"+id+"/response", answered)
	return err
}

func report(path string, failure error) error {
	body, err := json.Marshal(map[string]string{"errorType": "error", "errorMessage": failure.Error()})
	if err != nil {
		return err
	}
	_, _, err = call("POST", path, body)
	return err
}

// call sends a request to the Runtime API, and returns the ID of the event and the body.
func call(method, path string, body []byte) (string, []byte, error) {
	url := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/" + path
	asked, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return "", nil, err
	}
	answered, received, err := exchange(runtime, asked)
	if err != nil {
		return "", nil, err
	}
	return answered.Header.Get("Lambda-Runtime-Aws-Request-Id"), received, nil
}

// exchange sends a request, and reads its response to the end, so that the connection is kept.
func exchange(client *http.Client, asked *http.Request) (*http.Response, []byte, error) {
	answered, err := client.Do(asked)
	if err != nil {
		return nil, nil, err
	}
	defer answered.Body.Close()
	body, err := io.ReadAll(answered.Body)
	if err != nil {
		return nil, nil, err
	}
	if answered.StatusCode >= 300 {
		return nil, nil, fmt.Errorf("%s %s answered %d", asked.Method, asked.URL.Path, answered.StatusCode)
	}
	return answered, body, nil
}

func handle(key, id string) answer {
	token, err := mint(key)
	if err != nil {
		return reply(id, http.StatusBadGateway, refusal{Error: "Failed to create OpenAI session"}, err)
	}
	return reply(id, http.StatusOK, success{
		Success:        true,
		EphemeralToken: token.Value,
		SessionID:      token.Session.ID,
		ExpiresAtCamel: token.ExpiresAt,
		Model:          token.Session.Model,
		Voice:          token.Session.Audio.Output.Voice,
		Message:        "Ephemeral token created successfully",
		Value:          token.Value,
		ExpiresAt:      token.ExpiresAt,
	}, nil)
}

func mint(key string) (token, error) {
	var minted token
	url := os.Getenv("OPENAI_BASE_URL") + "/realtime/client_secrets"
	asked, err := http.NewRequest("POST", url, bytes.NewReader(request))
	if err != nil {
		return minted, err
	}
	asked.Header.Set("Authorization", "Bearer "+key)
	asked.Header.Set("Content-Type", "application/json")
	_, body, err := exchange(openai, asked)
	if err != nil {
		return minted, err
	}
	err = json.Unmarshal(body, &minted)
	return minted, err
}

func reply(id string, status int, body any, failure error) answer {
	line := record{RequestID: id, Status: status}
	if failure != nil {
		text := failure.Error()
		line.Error = &text
	}
	// Only texts and numbers, which are always valid JSON.
	written, _ := json.Marshal(line)
	fmt.Println(string(written))
	text, _ := json.Marshal(body)
	headers := map[string]string{"content-type": "application/json", "cache-control": "no-store"}
	return answer{StatusCode: status, Headers: headers, Body: string(text)}
}
