package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"time"
)

const (
	target      = "secretsmanager.GetSecretValue"
	contentType = "application/x-amz-json-1.1"
)

// apiKey reads the secret from Secrets Manager. The connection is not kept, since it is not used again.
func apiKey() (string, error) {
	region := os.Getenv("AWS_REGION")
	endpoint := os.Getenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
	if endpoint == "" {
		endpoint = "https://secretsmanager." + region + ".amazonaws.com"
	}
	body, err := json.Marshal(map[string]string{"SecretId": os.Getenv("OPENAI_SECRET_ARN")})
	if err != nil {
		return "", err
	}
	asked, err := http.NewRequest("POST", endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	asked.Close = true
	sign(asked, body, region, time.Now().UTC())
	_, received, err := exchange(openai, asked)
	if err != nil {
		return "", err
	}
	var secret struct{ SecretString string }
	var contents struct {
		Key string `json:"OPENAI_API_KEY"`
	}
	if err := json.Unmarshal(received, &secret); err != nil {
		return "", err
	}
	err = json.Unmarshal([]byte(secret.SecretString), &contents)
	return contents.Key, err
}

// sign adds a signature (AWS, "Create a signed AWS API request").
func sign(asked *http.Request, body []byte, region string, now time.Time) {
	date := now.Format("20060102T150405Z")
	asked.Header.Set("Content-Type", contentType)
	asked.Header.Set("X-Amz-Date", date)
	asked.Header.Set("X-Amz-Target", target)
	names := "content-type;host;x-amz-date"
	headers := "content-type:" + contentType + "\nhost:" + asked.URL.Host + "\nx-amz-date:" + date + "\n"
	if session := os.Getenv("AWS_SESSION_TOKEN"); session != "" {
		asked.Header.Set("X-Amz-Security-Token", session)
		names += ";x-amz-security-token"
		headers += "x-amz-security-token:" + session + "\n"
	}
	names += ";x-amz-target"
	headers += "x-amz-target:" + target + "\n"
	canonical := "POST\n/\n\n" + headers + "\n" + names + "\n" + digest(body)

	scope := date[:8] + "/" + region + "/secretsmanager/aws4_request"
	text := "AWS4-HMAC-SHA256\n" + date + "\n" + scope + "\n" + digest([]byte(canonical))
	key := []byte("AWS4" + os.Getenv("AWS_SECRET_ACCESS_KEY"))
	for _, part := range []string{date[:8], region, "secretsmanager", "aws4_request", text} {
		key = mac(key, part)
	}
	asked.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+os.Getenv("AWS_ACCESS_KEY_ID")+"/"+scope+
		", SignedHeaders="+names+", Signature="+hex.EncodeToString(key))
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, data string) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write([]byte(data))
	return hash.Sum(nil)
}
