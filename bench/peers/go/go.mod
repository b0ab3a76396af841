module token-mint-go

go 1.19
